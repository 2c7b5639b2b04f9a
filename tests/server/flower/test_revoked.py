"""A device of a Flower app whose certificate is revoked: cut off within a lease, and not let in again."""

import asyncio
from pathlib import Path

import pytest
from flwr.serverapp.strategy import FedAvg

from fedcore.core.errors import CertificateError
from fedcore.storage.pki.certificates import load_material
from fedcore.storage.pki.revocation import revoke
from tests.flower_app import client_app, server_app
from tests.flower_coordinator import serving_app
from tests.server.authority import make_authority
from tests.tiny_run import PATIENCE_S


async def test_a_revoked_device_of_an_app_is_cut_off(tmp_path: Path) -> None:
    certs = make_authority(tmp_path / "certs", ("ada", "device"))
    app = server_app(FedAvg(min_available_nodes=2), [], 1, nodes=2)  # it waits for a second device that never comes
    material, tls = load_material(certs, "coordinator"), load_material(certs, "ada")
    async with serving_app(app, tmp_path, tls=material, certs=certs, lease_s=2.0) as served:
        stay = served.join("ada", client_app(), tls=tls)
        await served.until("joined")
        revoke(certs, "ada")
        (event,) = await served.until("revoked")
        assert (event["device"], event["role"]) == ("ada", "device")
        with pytest.raises(CertificateError, match=r"device:ada .* was revoked on"):
            await asyncio.wait_for(asyncio.shield(stay), PATIENCE_S)
        with pytest.raises(CertificateError, match="was revoked on"):
            await asyncio.wait_for(served.join("ada", client_app(), tls=tls), PATIENCE_S)
        assert served.events("revocations")[0]["certificates"] == 1
