"""How every command ends when something goes wrong: with a sentence, not with a traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from include.errors import JudgeError

WRONG, INTERRUPTED = 2, 130


class LocalError(Exception):
    """Something on this machine that a person can mend."""


def plainly(main: Callable[[], int]) -> Callable[[], int]:
    """Make a command say what went wrong, and return 2: 1 is its own answer, such as a "no".

    What a person has to correct is said as it is; what AWS, the network or a disk refuses with its
    kind in front. Anything else is a mistake of ours, and keeps its traceback.
    """

    @functools.wraps(main)
    def command() -> int:
        try:
            return main()
        except KeyboardInterrupt:
            return INTERRUPTED
        except (JudgeError, LocalError) as error:
            said = str(error)
        except Exception as error:
            if not _is_refusal(error):
                raise
            said = f"{type(error).__name__}: {error}"
        print(f"Error: {said}", file=sys.stderr)
        return WRONG

    return command


def _is_refusal(error: Exception) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, BotoCoreError | ClientError | OSError)
