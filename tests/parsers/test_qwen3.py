from mlx_host.testing import ParserContract
from mlx_host_parser_qwen3 import Qwen3Parser


class TestQwen3(ParserContract):
    parser = Qwen3Parser
