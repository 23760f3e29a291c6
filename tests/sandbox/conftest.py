from __future__ import annotations

import pytest
from asking_sandbox import SMALL, Asker

from furnisync.sandbox.process import SandboxProcess


@pytest.fixture(scope="session")
def steady():
    """A sandbox that no test changes."""
    with SandboxProcess(**SMALL, qps=10**6, qpd=10**9) as sandbox:
        yield Asker(sandbox)


@pytest.fixture(scope="module")
def loose():
    """A sandbox that the tests of a module bend; each leaves no fault and no limit behind."""
    with SandboxProcess(**SMALL, qps=10**6, qpd=10**9, giant_reviews=500) as sandbox:
        yield Asker(sandbox)


@pytest.fixture
def bent(loose):
    loose.sandbox.reset_asked()
    yield loose
    loose.sandbox.set_faults([])
    loose.sandbox.set_limits(qps=10**6, qpd=10**9)
    loose.sandbox.churn(per_request=0, per_hour=0)
