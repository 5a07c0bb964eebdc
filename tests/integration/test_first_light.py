"""The first thing that must work: two devices of one user, a note, a kill, a resend."""

from pathlib import Path

from tests.harness import RunningServer, create, open_client, server_process, token_for


class TestTwoDevices:
    async def test_see_each_others_notes_as_they_are_made(self, server: RunningServer) -> None:
        async with server.client(client_id="desktop") as desktop, server.client(client_id="phone") as phone:
            result = await desktop.do(create("op_001", title="新笔记", content="笔记内容"))
            pushed = await phone.next("server_update")
        assert result["success"]
        assert pushed["entity_id"] == result["entity_id"]
        assert pushed["update_data"]["data"] == {"id": result["entity_id"], "title": "新笔记", "content": "笔记内容"}

    async def test_survive_a_kill_of_the_server_with_each_operation_applied_once(self, tmp_path: Path) -> None:
        note = create("op_001", title="kept")
        with server_process(tmp_path) as process:
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                first = await desktop.do(note)
            process.kill()
            process.start()
            async with open_client(process.ws_url, "desktop") as desktop:
                await desktop.greet(token=token_for("1"))
                resent = await desktop.do(note)
            async with open_client(process.ws_url, "phone") as phone:
                await phone.greet(token=token_for("1"))
                phone.cursor = None
                seen = (await phone.sync())["server_updates"]
        assert resent == {**first, "duplicate": True}
        assert [update["data"]["title"] for update in seen] == ["kept"]
