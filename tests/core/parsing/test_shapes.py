from mlx_host.testing import ParserContract

from tests.core.parsing import shapes


class TestTagged(ParserContract):
    parser = shapes.Tagged
    samples = shapes.Tagged.samples


class TestGlm(ParserContract):
    parser = shapes.Glm
    samples = shapes.Glm.samples


class TestMinimax(ParserContract):
    parser = shapes.Minimax
    samples = shapes.Minimax.samples


class TestKimi(ParserContract):
    parser = shapes.Kimi
    samples = shapes.Kimi.samples


class TestFenced(ParserContract):
    parser = shapes.Fenced
    samples = shapes.Fenced.samples


class TestMistral(ParserContract):
    parser = shapes.Mistral
    samples = shapes.Mistral.samples


class TestLlama(ParserContract):
    parser = shapes.Llama
    samples = shapes.Llama.samples


class TestPythonic(ParserContract):
    parser = shapes.Pythonic
    samples = shapes.Pythonic.samples
