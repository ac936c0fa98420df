"""Runs the forms that layers have on another platform, here."""

from contextlib import AbstractContextManager
from unittest import mock

import jax


def use(form: str) -> AbstractContextManager[object]:
    """Returns a context in which `platform_dependent` takes one form, as "cuda" or "default"."""

    def choose(*args, default, **forms):
        return forms.get(form, default)(*args)

    return mock.patch.object(jax.lax, "platform_dependent", choose)
