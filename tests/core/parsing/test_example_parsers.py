from mlx_host.testing import ParserContract

from tests.core.parsing import example_parsers


class TestTagged(ParserContract):
    parser = example_parsers.Tagged
    samples = example_parsers.Tagged.samples


class TestGlm(ParserContract):
    parser = example_parsers.Glm
    samples = example_parsers.Glm.samples


class TestMinimax(ParserContract):
    parser = example_parsers.Minimax
    samples = example_parsers.Minimax.samples


class TestKimi(ParserContract):
    parser = example_parsers.Kimi
    samples = example_parsers.Kimi.samples


class TestFenced(ParserContract):
    parser = example_parsers.Fenced
    samples = example_parsers.Fenced.samples


class TestMistral(ParserContract):
    parser = example_parsers.Mistral
    samples = example_parsers.Mistral.samples


class TestLlama(ParserContract):
    parser = example_parsers.Llama
    samples = example_parsers.Llama.samples


class TestPythonic(ParserContract):
    parser = example_parsers.Pythonic
    samples = example_parsers.Pythonic.samples
