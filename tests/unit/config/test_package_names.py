"""Names of packages in [target] are names, and nothing else that apt-get would read in them."""

import re

import pytest

from cgroup_preflight.config.keys import PACKAGE, parse_package
from cgroup_preflight.core.quantities import QuantityError


@pytest.mark.parametrize("name", ["redis-server", "g++", "libstdc++6", "a1", "a." + 98 * "b"])
def test_a_name(name):
    assert parse_package(name) == name


@pytest.mark.parametrize("name", ["nginx-", "nginx-:amd64", "a-", "a", "-nginx", "a" * 101, "nginx/sid", "nginx=1", ""])
def test_no_name(name):
    """apt-get removes a package with a hyphen at the end of its name."""
    with pytest.raises(QuantityError, match="is not the name of a package"):
        parse_package(name)
    assert not re.fullmatch(PACKAGE, name)
