"""PyTorch's side, in a process of its own, whose environment may lack JAX."""

import contextlib
import time
from typing import Any

import torch

from benchmarks.peers import protocol, torch_training

WARM_UP_STEPS = 3


def main() -> None:
    """Answers "hello", "make", "run" and "check"."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    made: dict[str, torch_training.Training] = {}

    def hello() -> dict[str, Any]:
        versions = {"torch": torch.__version__}
        with contextlib.suppress(ImportError):
            import monai

            versions["monai"] = monai.__version__
        name = torch.cuda.get_device_name() if on_gpu else f"{torch.get_num_threads()} threads"
        return {"platform": "gpu" if on_gpu else "cpu", "device": name, "versions": versions}

    def make(**options: Any) -> dict[str, Any]:
        made.clear()  # Frees its memory first.
        if on_gpu:
            torch.cuda.empty_cache()
        torch._dynamo.reset()
        _allow_speed(True)
        start = time.perf_counter()
        made["training"] = training = torch_training.Training(device=device, **options)
        training.run(WARM_UP_STEPS)
        seconds = time.perf_counter() - start
        return {"parameters": training.num_parameters, "first_seconds": seconds}

    def check_case(path: str, num_steps: int, **options: Any) -> dict[str, Any]:
        _allow_speed(False)
        training = torch_training.Training(device=device, **options)
        return torch_training.check(training, path, num_steps)

    protocol.serve(
        {
            "hello": hello,
            "make": make,
            "run": lambda steps: made["training"].run(steps),
            "check": check_case,
        }
    )


def _allow_speed(allowed: bool) -> None:
    """Allows TensorFloat-32, XLA's default, and cuDNN's search for algorithms."""
    torch.backends.cudnn.benchmark = allowed
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed


if __name__ == "__main__":
    main()
