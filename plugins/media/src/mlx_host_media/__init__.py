"""Images and audio from untrusted clients, for backends: decoded in worker processes, within limits.

Imports nothing: a decoder process imports this package, and starts faster without what the others need.
"""
