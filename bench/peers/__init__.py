"""One file per system: `python FILE URL PROMPTS IN_FLIGHT` asks each prompt once.

PROMPTS is a file of JSON lines with `prompt_id` and `prompt`. The last line printed is a JSON
object: how many were `answered` and how many ended as `errors`.
Each runs in an environment of its own, so none imports another, or anything of ours.
"""
