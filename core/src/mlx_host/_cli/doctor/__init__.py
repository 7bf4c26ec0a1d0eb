"""`mlx-host doctor`: what works on this machine, what does not, and the remedy."""

from mlx_host._cli.doctor.command import doctor_command

__all__ = ["doctor_command"]
