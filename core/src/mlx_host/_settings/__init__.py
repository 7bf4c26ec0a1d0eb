"""Settings: each field of a schema is a flag, an environment variable and a key of mlx-host.toml.

Flags override environment variables, which override the file, which overrides the defaults. Tables are merged, lists
are replaced. Relative paths are relative to the working directory, including those in the file.
"""

from mlx_host._settings.layers import FileValues, environment_values, load_file, merge_settings
from mlx_host._settings.names import (
    HOST,
    MODEL,
    SettingNames,
    api_names,
    check_fields,
    check_option_names,
    flag_name,
    is_list,
    is_table,
    negation,
    option_names,
    plain,
    variable_name,
)
from mlx_host._settings.schema import HostSettings, ModelConfig, ModelSettings, Settings, option_values
from mlx_host._settings.suggestions import closest, edit_distance

__all__ = [
    "HOST",
    "MODEL",
    "FileValues",
    "HostSettings",
    "ModelConfig",
    "ModelSettings",
    "SettingNames",
    "Settings",
    "api_names",
    "check_fields",
    "check_option_names",
    "closest",
    "edit_distance",
    "environment_values",
    "flag_name",
    "is_list",
    "is_table",
    "load_file",
    "merge_settings",
    "negation",
    "option_names",
    "option_values",
    "plain",
    "variable_name",
]
