"""A router for the LiteLLM proxy; its folder is in TURNOUT_ROUTER."""

import os

from turnout.integrations.litellm.classifier import Classifier

classifier = Classifier(os.environ["TURNOUT_ROUTER"])
