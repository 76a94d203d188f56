"""Recording a run: ``init``, the Run and what hangs on it."""
