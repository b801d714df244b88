import pytest

from tests.gpu import devices


@pytest.fixture(scope="module", params=["double", pytest.param("cupy", marks=pytest.mark.gpu)])
def device(request):
    with devices.at_work(request.param) as device:
        yield device
