"""URLs of Valkey stores, taken apart; nothing is connected to."""

from __future__ import annotations

from typing import Any

import pytest

from raincheck.core.errors import StoreUnusable
from raincheck.store import mask
from raincheck.store.valkey.address import CLUSTER_SHARDS, HostPort, make_pool, parse


def options(url: str, node: HostPort | None = None) -> dict[str, Any]:
    """What a connection to it is made with."""
    pool: Any = make_pool(parse(url), node)
    kwargs: dict[str, Any] = pool.connection_kwargs
    return kwargs


class TestForms:
    """What the scheme says."""

    @pytest.mark.parametrize(
        ("url", "form"),
        [
            ("redis://h", ""),
            ("valkeys://h:1/2", ""),
            ("unix:///run/valkey.sock", ""),
            ("valkey+sentinel://h/main", "sentinel"),
            ("redis+cluster://h", "cluster"),
            ("valkeys+cluster://h", "cluster"),
        ],
    )
    def test_the_scheme_says_what_is_there(self, url: str, form: str) -> None:
        """One server, sentinels or a cluster; Valkey's names are the same as those of Redis."""
        assert parse(url).form == form

    @pytest.mark.parametrize(
        ("url", "nodes"),
        [
            ("redis+cluster://a:7000,b", (HostPort("a", 7000), HostPort("b", 6379))),
            ("redis+cluster://user:p%40ss@[::1]:7000", (HostPort("::1", 7000),)),
            ("redis+sentinel://a,b:1/main", (HostPort("a", 26379), HostPort("b", 1))),
        ],
    )
    def test_several_hosts_may_be_named(self, url: str, nodes: tuple[HostPort, ...]) -> None:
        """Each with its port, or the usual one."""
        assert parse(url).nodes == nodes

    def test_a_cluster_has_shards_unless_it_says_otherwise(self) -> None:
        """A single server has one: more cost round trips and bring nothing there."""
        urls = ("redis://h", "redis+sentinel://h/main", "redis+cluster://h", "redis+cluster://h?shards=3")
        assert [parse(url).shards for url in urls] == [1, 1, CLUSTER_SHARDS, 3]

    @pytest.mark.parametrize(
        ("url", "word"),
        [
            ("redis+other://h", "redis\\+cluster://"),
            ("unix+cluster://h", "not known"),
            ("redis+cluster://", "must name hosts"),
            ("redis+cluster://a:7000,", "must name hosts"),
            ("redis+cluster://a:port", "host:port"),
            ("redis+cluster://a:99999", "host:port"),
            ("redis+cluster://a/1", "one database"),
            ("redis+sentinel:///main", "must name hosts"),
            ("redis+cluster://a?shards=257", "1 to 256"),
            ("redis+cluster://a?ack=all", "ack=all"),
        ],
    )
    def test_a_url_that_means_nothing_is_refused(self, url: str, word: str) -> None:
        """With the reason."""
        with pytest.raises(StoreUnusable, match=word):
            parse(url)

    def test_a_refusal_shows_no_password(self) -> None:
        """Whatever is wrong with the rest."""
        with pytest.raises(StoreUnusable) as caught:
            parse("redis+cluster://user:secret@a:port")
        assert "secret" not in str(caught.value)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("redis+cluster://u:secret@a:1,b:2?shards=3", "redis+cluster://u:***@a:1,b:2?shards=3"),
            ("redis+sentinel://a/m?sentinel_password=secret", "redis+sentinel://a/m?sentinel_password=***"),
            ("redis://a?password=secret", "redis://a?password=***"),
        ],
    )
    def test_a_url_is_shown_without_its_passwords(self, url: str, shown: str) -> None:
        """Wherever they stand in it."""
        assert mask(url) == shown


class TestConnections:
    """What becomes of the options."""

    def test_every_node_of_a_cluster_is_connected_to_in_the_same_way(self) -> None:
        """With the user, the password and the options of the URL."""
        made = options("redis+cluster://user:p%40ss@a:7000?socket_timeout=3&ack=fsync", HostPort("::1", 7001))
        wanted = {"host": "::1", "port": 7001, "username": "user", "password": "p@ss"}
        assert {name: made[name] for name in wanted} == wanted
        assert made["socket_timeout"] == 3

    def test_tls_is_for_every_node(self) -> None:
        """And so is its certificate."""
        made = options("rediss+cluster://a?ssl_ca_certs=/ca.pem", HostPort("b", 7001))
        assert (made["host"], made["ssl_ca_certs"]) == ("b", "/ca.pem")

    def test_a_primary_has_its_own_user_and_database(self) -> None:
        """Sentinels have another."""
        url = "redis+sentinel://u:p@a,b/main/2?sentinel_password=s&socket_timeout=3"
        pool: Any = make_pool(parse(url))
        made = pool.connection_kwargs
        assert (made["username"], made["password"], made["db"], made["socket_timeout"]) == ("u", "p", 2, 3)
        sentinels = pool.sentinel_manager.sentinels
        asked = [sentinel.connection_pool.connection_kwargs for sentinel in sentinels]
        assert [(each["host"], each["username"], each["password"]) for each in asked] == [
            ("a", None, "s"),
            ("b", None, "s"),
        ]
