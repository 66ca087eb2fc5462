"""Stand-ins for the services that the daemon watches: real HTTP, on this machine alone.

For tests and for trying things out without a GPU: `bach demo gpu-service`, `bach demo ollama`.
They answer in the shapes of the real ones and can be told to be slow, to lie or to be gone:

    with GpuService() as service:
        service.load("sdxl", vram_mb=6000, in_use=1)
        service.mode("hang", path="/api/health/vram")
"""

from daemon_app.demo.double import Double, PortTakenError, UnknownModelError, WishError
from daemon_app.demo.gpu_service import GpuService
from daemon_app.demo.modes import MODES
from daemon_app.demo.ollama import Ollama

# By the name under which the command line starts them.
DOUBLES: dict[str, type[Double]] = {"gpu-service": GpuService, "ollama": Ollama}

__all__ = [
    "DOUBLES",
    "MODES",
    "Double",
    "GpuService",
    "Ollama",
    "PortTakenError",
    "UnknownModelError",
    "WishError",
]
