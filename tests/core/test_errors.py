"""The tree in the module's header is the tree of the classes."""

import inspect
import re

from fedcore.core import errors

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}


def test_the_header_draws_every_class_below_its_parent():
    lines = str(errors.__doc__).splitlines()
    drawn = {
        match[2]: len(match[1] or "") for line in lines if (match := re.match(r"([│ ]*[├└]── )?(\w+)(?=$|  )", line))
    }
    depths = {name: 4 * (len(kind.__mro__) - len(errors.FedcoreError.__mro__)) for name, kind in CLASSES.items()}
    assert drawn == depths and list(drawn) == list(CLASSES)


def test_every_error_of_a_user_is_a_fedcore_error():
    assert all(issubclass(kind, errors.FedcoreError) and kind.__doc__ for kind in CLASSES.values())
    assert issubclass(errors.UpdateLate, errors.UpdateRejected) and issubclass(errors.BlobCorrupt, errors.ProtocolError)
