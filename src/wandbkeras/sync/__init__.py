"""Sync: bringing stored runs to a W&B server and proving by reading back that they arrived.

What knows wandb: ``transaction_log`` its file format (and ``logged_run`` and ``logged_artifact``,
which read it), ``upload`` its client that sends, ``readback`` its client that reads, whose answers
``answers`` makes plain values of. No other line of the package imports it.
"""
