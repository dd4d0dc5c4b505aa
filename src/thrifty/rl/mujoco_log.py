"""MuJoCo's warnings go to Python's logging, not to a file in the working folder.

MuJoCo writes every warning to ``MUJOCO_LOG.TXT`` in the working folder and prints it. Loading
``HalfCheetah-v5`` is enough: gymnasium's model file uses an attribute that MuJoCo 4 deprecates.
A user of an environment can do nothing about that, so deprecations of the model's syntax are
logged at level DEBUG; everything else (an unstable simulation, say) at level WARNING, which
Python prints unless told otherwise.
"""

from __future__ import annotations

import logging
import os

LOGGER = logging.getLogger("thrifty.mujoco")


def _to_logging(message: str) -> None:
    LOGGER.log(logging.DEBUG if "deprecated" in message else logging.WARNING, message)


def silence_log_file() -> None:
    """Keep MuJoCo from writing ``MUJOCO_LOG.TXT``; call before an environment is made.

    May be called any number of times. Without MuJoCo it does nothing, and a warning handler that
    somebody else has installed stays (with MuJoCo 3 such a handler replaces the file anyway).

    Raises:
        ValueError: MuJoCo is there but cannot be loaded, because of the graphics backend it is
            asked to use.

    Example:
        >>> silence_log_file()
        >>> environment = gymnasium.make("HalfCheetah-v5")  # doctest: +SKIP
    """
    try:
        import mujoco
    except ModuleNotFoundError:
        return
    except Exception as problem:  # whatever the chosen graphics backend raises
        raise ValueError(
            f"MuJoCo cannot be loaded with MUJOCO_GL={os.environ.get('MUJOCO_GL')} ({problem}): "
            "unset it, or choose egl or osmesa and install that library"
        ) from None
    if hasattr(mujoco, "MjLogConfig"):  # since MuJoCo 4
        config = mujoco.MjLogConfig.get()
        config.logto_file = False
        config.set()
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_to_logging)
