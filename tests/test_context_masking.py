"""Values of variables that look like keys don't turn up in what is recorded."""

from __future__ import annotations

from wandbkeras.context.masking import Masking

ENVIRON = {
    "WANDB_API_KEY": "0123456789abcdef",
    "DB_PASSWORD": "hunter-2",
    "PRIVATE_KEY": "-----BEGIN KEY-----\nMIIEvQIBADAN\n",
    "LONG_TOKEN": "0123456789abcdef0000",
    "TOKENIZERS_PARALLELISM": "false",
    "AUTH": "disabled",
    "HOME": "/home/keras",
}


def test_values_are_hidden_and_words_are_not() -> None:
    """The longest value first; a value of several lines line by line; what is short stays."""
    masking = Masking(ENVIRON)
    text = "0123456789abcdef0000 0123456789abcdef hunter-2 MIIEvQIBADAN false disabled /home/keras"
    assert masking.hide(text) == "*** *** *** *** false disabled /home/keras"


def test_the_beginning_of_a_value_waits_for_its_end() -> None:
    """Of a line that is still being written, what may become a key is left out for now."""
    masking = Masking(ENVIRON)
    assert masking.hide_unfinished("key 0123456789abcde") == "key "
    assert masking.hide_unfinished("loss 0.012") == "loss 0.012"
    assert masking.hide_unfinished("hunter-2") == "***"
