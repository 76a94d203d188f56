"""Sync: bringing stored runs to a W&B server and proving by reading back that they arrived.

Three modules know wandb: ``transaction_log`` its file format, ``upload`` its client that sends,
``readback`` its client that reads. No other line of the package names it.
"""
