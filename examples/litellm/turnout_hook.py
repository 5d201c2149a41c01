"""A pre-call hook for the LiteLLM proxy; its router folder is in TURNOUT_ROUTER."""

import os

from turnout.integrations.litellm.hook import HookTarget, TurnoutHook

hook = TurnoutHook(
    os.environ["TURNOUT_ROUTER"],
    {"reasoning": HookTarget("strong", effort="high"), "fast": HookTarget("quick")},
)
