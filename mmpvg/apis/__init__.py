"""The command lines of the tools, and prediction on images."""

# Checks first that mmengine is there and fits.
from .. import registry as _registry  # noqa: F401
