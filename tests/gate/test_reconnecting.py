"""An address that is led to another server, while the one that it led to lives on."""

from __future__ import annotations

import pytest
from at_the_cap.servers import Address, new_server, started
from gate.asking import WAYS, asking

from tollkeeper.gate import answers as a
from tollkeeper.gate import encoding
from tollkeeper.gate.functions import GateFunctions, connect


@pytest.mark.parametrize("way", WAYS)
def test_new_connections_find_the_server_to_which_the_address_leads_now(way: str) -> None:
    servers = new_server("valkey"), new_server("valkey")
    with started(*servers):
        for epoch, server in enumerate(servers, start=1):
            gate = GateFunctions(connect(server.address))
            gate.run(encoding.begin_epoch(epoch, gate.incarnation()))
            gate.close()
        address = Address(servers[0])
        asked = asking(way, address.url)

        def epoch_there() -> int:
            answer = asked.run(encoding.read_epoch())
            assert isinstance(answer, a.EpochKey)
            return answer.epoch

        assert epoch_there() == 1
        address.lead_to(servers[1])
        assert epoch_there() == 1, "the connection lives on"
        asked.reconnect()
        assert epoch_there() == 2
        (answer,) = asked.run_many([encoding.read_epoch()])
        assert isinstance(answer, a.EpochKey)
        assert answer.epoch == 2
        asked.close()
        address.close()
