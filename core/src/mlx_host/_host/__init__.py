"""The models served, by name: load, admit, ask, record; and what joins an engine's text to a parser."""

from mlx_host._host.host import Host
from mlx_host._host.output_processor import ChoiceDone, Delta, Done, answer
from mlx_host._host.reply import Exchange, RequestRecord
from mlx_host._host.served_model import Limits, ModelState, ServedModel

__all__ = [
    "ChoiceDone",
    "Delta",
    "Done",
    "Exchange",
    "Host",
    "Limits",
    "ModelState",
    "RequestRecord",
    "ServedModel",
    "answer",
]
