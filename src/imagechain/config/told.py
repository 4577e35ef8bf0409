"""Variables that the service gives to the pipelines it starts.

They begin like settings, and are none: a pipeline may run imagechain itself.
"""

#: Why it runs.
CAUSE = "IMAGECHAIN_CAUSE"
#: By which decision: by this a pipeline is found again whose start was not answered.
INTENT = "IMAGECHAIN_INTENT"
#: What from: JSON, by reference.
INPUTS = "IMAGECHAIN_INPUTS"
#: After which deployment: JSON.
DEPLOYMENT = "IMAGECHAIN_DEPLOYMENT"

TOLD_VARIABLES = frozenset({CAUSE, INTENT, INPUTS, DEPLOYMENT})
