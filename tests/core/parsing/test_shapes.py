from mlx_host.testing import ParserContract

from tests.core.parsing import shapes


class TestTagged(ParserContract):
    parser = shapes.Tagged


class TestGlm(ParserContract):
    parser = shapes.Glm


class TestMinimax(ParserContract):
    parser = shapes.Minimax


class TestKimi(ParserContract):
    parser = shapes.Kimi


class TestFenced(ParserContract):
    parser = shapes.Fenced


class TestMistral(ParserContract):
    parser = shapes.Mistral


class TestLlama(ParserContract):
    parser = shapes.Llama


class TestPythonic(ParserContract):
    parser = shapes.Pythonic
