"""Decodes images and audio of untrusted clients in worker processes, with limits on size and time.

This module imports nothing, so that the decoder processes start quickly.
"""
