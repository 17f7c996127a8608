"""IP addresses in SQL: IPv4 as a number, IPv6 as 32 hexadecimal digits; what is read is what ``tenantry.nql.addresses`` reads."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from tenantry.master.query.fragments import Binder, Fragment, joined, literal, put, text
from tenantry.nql.addresses import IPV4, IPV6_WORDS, MAPPED


class AddressCompiler:
    """Addresses of one query."""

    def __init__(self, binder: Binder) -> None:
        self._binder = binder

    def is_ip(self, value: Fragment, *, four: bool = True, six: bool = True) -> Fragment:
        """Whether a text is an address of one of the families."""
        yes, no = literal("true"), literal("false")
        return self._address(value, lambda _: yes if four else no, lambda _: yes if six else no)

    def in_subnets(self, value: Fragment, networks: Sequence[str]) -> Fragment:
        """Whether a text is an address in one of the networks."""
        read = [ipaddress.ip_network(one) for one in networks]

        def four(address: Fragment) -> Fragment:
            tests = [
                put(f"({{}} BETWEEN {int(one.network_address)} AND {int(one.broadcast_address)})", address)
                for one in read
                if one.version == 4
            ]
            return joined(" OR ", tests) if tests else literal("false")

        def six(address: Fragment) -> Fragment:
            tests = [
                put(
                    f"({{}} BETWEEN '{int(one.network_address):032x}' AND '{int(one.broadcast_address):032x}')", address
                )
                for one in read
                if one.version == 6
            ]
            return joined(" OR ", tests) if tests else literal("false")

        return self._address(value, four, six)

    def _address(
        self, value: Fragment, four: Callable[[Fragment], Fragment], six: Callable[[Fragment], Fragment]
    ) -> Fragment:
        """What ``four`` says of an IPv4 address, ``six`` of an IPv6 address; false for other texts, absent for absent ones."""
        bind = self._binder.bind

        def number(parts: Fragment) -> Fragment:
            cast = put("list_transform(string_split({}, '.'), lambda p: TRY_CAST(p AS BIGINT))", parts)
            return put("list_reduce({}, lambda a, p: a * 256 + p)", cast)

        def digits(words: Fragment, part: int) -> Fragment:
            split = put(f"string_split(split_part(lower({{}}), '::', {part}), ':')", words)
            padded = put("list_transform({}, lambda p: CASE WHEN p = '' THEN '' ELSE lpad(p, 4, '0') END)", split)
            return put("array_to_string({}, '')", padded)

        def whole(words: Fragment, left: Fragment, right: Fragment) -> Fragment:
            full = put("concat({}, repeat('0', 32 - length({}) - length({})), {})", left, left, right, right)
            fits = put(
                "(length({}) + length({}) <= CASE WHEN contains({}, '::') THEN 28 ELSE 32 END "
                "AND (contains({}, '::') OR length({}) = 32))",
                *(left, right, words, words, left),
            )
            return put("CASE WHEN {} THEN {} ELSE false END", fits, bind(full, six))

        def judge(address: Fragment) -> Fragment:
            return put(
                "CASE WHEN regexp_full_match({}, {}) THEN {} WHEN regexp_full_match({}, {}) THEN {} "
                "WHEN {} IS NOT NULL THEN false END",
                *(address, text(IPV4), bind(number(address), four), address, text(IPV6_WORDS)),
                bind(
                    digits(address, 1), lambda left: bind(digits(address, 2), lambda right: whole(address, left, right))
                ),
                address,
            )

        return bind(put("regexp_replace({}, {}, {})", value, text(MAPPED), text(r"\1")), judge)
