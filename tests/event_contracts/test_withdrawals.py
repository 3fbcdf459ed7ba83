"""Orders that wait are looked at again: what is left of them breaks nothing, however it fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from event_contracts.trading.admission import Admission
from event_contracts.trading.fees import FeeRules
from event_contracts.trading.money import Account, Holding
from event_contracts.trading.orders import (
    Fill,
    LimitOrder,
    MarketView,
    Outcome,
    Quote,
    RestingOrder,
    Verb,
)
from event_contracts.trading.position_limits import PositionLimits
from event_contracts.trading.withdrawals import Withdrawal, withdrawals

D = Decimal
MARKET = "RAIN"
LARGE = D(10**9)
BUFFER_ALONE = Admission(PositionLimits(LARGE, LARGE, D(1)))
RULES = (FeeRules(), FeeRules(fee_step=D("0.000001"), balance_step=D("0.0001")))


def waiting(
    name: str, action: Verb, side: Outcome, price: str, count: int, market: str = MARKET
) -> RestingOrder:
    order = LimitOrder(f"c-{name}", market, action, side, D(price), D(count))
    return RestingOrder(name, order, D(count))


def seen(cash: str, resting: Sequence[RestingOrder] = (), yes: int = 0, no: int = 0) -> MarketView:
    quote = Quote(D("0.40"), D("0.42"))
    return MarketView(MARKET, D(cash), D(yes), D(no), tuple(resting), quote)


def names(found: Sequence[Withdrawal]) -> list[str]:
    return [each.resting.order_id for each in found]


def ids(view: MarketView) -> set[str]:
    return {each.order_id for each in view.resting}


def without(view: MarketView, found: Sequence[Withdrawal]) -> MarketView:
    """The view once what was found has been cancelled."""
    gone = {each.resting for each in found}
    return replace(view, resting=tuple(r for r in view.resting if r not in gone))


def taken_out(
    view: MarketView, admission: Admission, carried: Mapping[str, Decimal] | None = None
) -> tuple[Withdrawal, ...]:
    """What is taken out where every order is ours."""
    return withdrawals(view, ids(view), admission, carried or {})


verbs: st.SearchStrategy[Verb] = st.sampled_from(["BUY", "BUY", "SELL"])
sides: st.SearchStrategy[Outcome] = st.sampled_from(["YES", "NO"])


@st.composite
def books(draw: st.DrawFn, most: int = 6, elsewhere: bool = True) -> MarketView:
    """An account in front of orders that wait, whatever it could be."""
    markets = [MARKET, MARKET, MARKET, "SNOW"] if elsewhere else [MARKET]
    resting = [
        waiting(
            f"v-{number}",
            draw(verbs),
            draw(sides),
            str(D(draw(st.integers(1, 99))) / 100),
            draw(st.sampled_from([1, 5, 10, 20, 50, 100, 300])),
            draw(st.sampled_from(markets)),
        )
        for number in range(draw(st.integers(0, most)))
    ]
    cash = str(D(draw(st.integers(0, 60_000))) / 100)
    held = draw(st.sampled_from([0, 0, 5, 20, 100, 400, 600]))
    long = draw(st.booleans())
    return seen(cash, resting, held if long else 0, 0 if long else held)


def admissions(draw: st.DrawFn) -> Admission:
    return Admission(
        PositionLimits(
            D(draw(st.sampled_from([50, 200, 500]))),
            D(draw(st.sampled_from([20, 100, 500]))),
            D(draw(st.sampled_from(["0.1", "0.25", "1"]))),
        ),
        D(draw(st.sampled_from([0, 50]))),
        draw(st.sampled_from(RULES)),
    )


limits = st.composite(admissions)


@given(books(), limits())
def test_what_is_left_passes_and_is_looked_at_again_in_vain(
    view: MarketView, admission: Admission
) -> None:
    left = without(view, taken_out(view, admission))
    assert taken_out(left, admission) == ()


@given(books(), limits())
def test_what_is_taken_out_could_not_stay_beside_what_is_left_before_it(
    view: MarketView, admission: Admission
) -> None:
    found = taken_out(view, admission)
    left = without(view, found)
    for each in found:
        place = view.resting.index(each.resting)
        before = [r for r in left.resting if view.resting.index(r) < place]
        if each.resting.order.action == "BUY":
            before = [r for r in left.resting if r.order.action == "SELL" or r in before]
        alone = replace(view, resting=(*before, each.resting))
        assert names(taken_out(alone, admission)) == [each.resting.order_id]


@given(books(most=1, elsewhere=False), limits(), st.integers(0, 99))
def test_a_purchase_that_waits_alone_is_taken_out_where_its_fill_would_be_refused(
    view: MarketView, admission: Admission, carried: int
) -> None:
    assume(view.resting and view.resting[0].order.action == "BUY")
    [each] = view.resting
    order = each.order
    rounding = D(carried) / 10_000 % admission.fees.balance_step
    fill = Fill("v-0", MARKET, "BUY", order.side, order.price, each.remaining, True)
    why = admission.refusal_at_fill(fill, view, rounding)
    found = taken_out(view, admission, {"v-0": rounding})
    assert [w.why for w in found] == ([why] if why else [])


@given(books(), limits())
def test_orders_that_were_admitted_one_after_another_stay_while_nothing_happens(
    view: MarketView, admission: Admission
) -> None:
    """Sales go first: one that is sent later turns a purchase that closes into one that opens."""
    there: tuple[RestingOrder, ...] = ()
    for each in sorted(view.resting, key=lambda each: each.order.action == "BUY"):
        order = each.order
        now = replace(view, resting=there)
        if order.market != MARKET:
            continue
        if not admission.refusal(order.action, order.side, order.price, each.remaining, now):
            there = (*there, each)
    assert taken_out(replace(view, resting=there), admission) == ()


@given(st.data())
def test_fills_of_purchases_that_were_admitted_take_none_of_them_out_for_the_buffer(
    data: st.DataObject,
) -> None:
    """However they fill, contract by contract, what rounding has cost comes back in the sum."""
    admission = replace(BUFFER_ALONE, fees=data.draw(st.sampled_from(RULES)))
    wanted = [each for each in data.draw(books(elsewhere=False)).resting]
    account = Account(D(data.draw(st.integers(5_000, 60_000))) / 100)
    resting: tuple[RestingOrder, ...] = ()
    for each in wanted:
        order = each.order
        view = of(account, resting)
        if order.action == "BUY" and not admission.refusal(
            "BUY", order.side, order.price, each.remaining, view
        ):
            resting = (*resting, each)
    while resting:
        found = taken_out(of(account, resting), admission, account.carried)
        assert not [each for each in found if "stays" in each.why]
        number = data.draw(st.integers(0, len(resting) - 1))
        each = resting[number]
        count = D(data.draw(st.integers(1, int(each.remaining))))
        account, _ = account.booked(filled(each, count), admission.fees)
        left = each.remaining - count
        after = (replace(each, remaining=left),) if left else ()
        resting = (*resting[:number], *after, *resting[number + 1 :])


def of(account: Account, resting: tuple[RestingOrder, ...]) -> MarketView:
    held = account.holding(MARKET)
    quote = Quote(D("0.40"), D("0.42"))
    return MarketView(MARKET, account.cash, held.yes, held.no, resting, quote)


def filled(each: RestingOrder, count: Decimal) -> Fill:
    order = each.order
    return Fill(each.order_id, order.market, order.action, order.side, order.price, count, True)


@st.composite
def scarce(draw: st.DrawFn) -> tuple[MarketView, Admission]:
    """Orders, and cash for about as much as some of the purchases cost beyond the buffer."""
    view = draw(books(most=4, elsewhere=False))
    admission = draw(st.one_of(limits(), st.just(BUFFER_ALONE)))
    costs = [r.order.price * r.remaining for r in view.resting if r.order.action == "BUY"]
    some = sum((cost for cost in costs if draw(st.booleans())), D(0))
    spare = D(draw(st.integers(-100, 300))) / 100
    return replace(view, cash=max(admission.cash_buffer + some + spare, D(0))), admission


@pytest.mark.slow
@settings(max_examples=400)
@given(scarce())
def test_whichever_of_what_is_left_fills_in_whatever_order_buffer_and_contracts_hold(
    case: tuple[MarketView, Admission],
) -> None:
    """Sales sell what is held by then, as the venue cuts those that only reduce."""
    view, admission = case
    left = without(view, taken_out(view, admission)).resting
    start = Account(view.cash, {MARKET: Holding(view.yes, view.no)})
    for length in range(1, len(left) + 1):
        for some in permutations(left, length):
            account = start
            for each in some:
                held = account.holding(MARKET)
                before = held
                count = each.remaining
                if each.order.action == "SELL":
                    count = min(count, held.of(each.order.side))
                if not count:
                    continue
                account, _ = account.booked(filled(each, count), admission.fees)
                held = account.holding(MARKET)
                if each.order.action == "BUY":
                    assert account.cash >= admission.cash_buffer
                    opened = held.of(each.order.side)
                    assert opened <= admission.limits.contracts or not opened
                assert held != before


@given(books(), limits(), st.data())
def test_orders_of_others_and_elsewhere_are_never_taken_out(
    view: MarketView, admission: Admission, data: st.DataObject
) -> None:
    ours = data.draw(st.sets(st.sampled_from(sorted(ids(view)))) if ids(view) else st.just(set()))
    found = withdrawals(view, ours, admission, {})
    assert set(names(found)) <= ours
    assert {each.resting.order.market for each in found} <= {MARKET}


@given(
    st.lists(st.integers(1, 60), max_size=7),
    sides,
    st.integers(0, 200),
)
def test_sales_are_taken_out_until_the_rest_is_held_and_the_oldest_stay(
    counts: list[int], side: Outcome, held: int
) -> None:
    resting = [waiting(f"v-{k}", "SELL", side, "0.9", count) for k, count in enumerate(counts)]
    view = seen("0", resting, held if side == "YES" else 0, held if side == "NO" else 0)
    found = taken_out(view, Admission())
    left = without(view, found)
    assert left.resting_count("SELL", side) <= held
    assert bool(found) == (sum(counts) > held)
    free = held
    for each in resting:
        fits = each.remaining <= free
        assert (each in left.resting) == fits, "it stays where the older ones leave enough"
        free -= int(each.remaining) if fits else 0


# Worked examples: 10 YES at $0.50 cost 5.00 and a maker's fee of 0.04375, so $5.05.


TEN = [waiting(f"v-{k}", "BUY", "YES", "0.50", 10) for k in range(3)]


@pytest.mark.parametrize(
    ("cash", "gone"),
    [
        ("65.15", []),
        ("65.14", ["v-2"]),
        ("60.09", ["v-2", "v-1"]),
        ("55.04", ["v-2", "v-1", "v-0"]),
    ],
)
def test_purchases_keep_the_buffer_together_and_the_newest_goes_first(
    cash: str, gone: list[str]
) -> None:
    assert names(taken_out(seen(cash, TEN), BUFFER_ALONE)) == gone


def test_purchases_of_both_sides_count_and_what_one_would_bring_in_helps_no_other() -> None:
    """10 NO at 0.50 cost as much; with 10 YES held they bring in 10.00 − 5.05."""
    opposite = waiting("v-9", "BUY", "NO", "0.50", 10)
    assert names(taken_out(seen("60.10", [TEN[0], opposite]), BUFFER_ALONE)) == []
    assert names(taken_out(seen("60.09", [TEN[0], opposite]), BUFFER_ALONE)) == ["v-9"]
    closing_first = [opposite, *TEN[:2]]
    assert names(taken_out(seen("60.10", closing_first, yes=10), BUFFER_ALONE)) == []
    assert names(taken_out(seen("60.09", closing_first, yes=10), BUFFER_ALONE)) == ["v-1"]


def test_rounding_that_an_order_carries_comes_back_to_it() -> None:
    """5.00 and 0.0438 leave 0.0062 of rounding: with 0.0038 carried a cent comes back."""
    view = seen("65.14", TEN)
    assert names(taken_out(view, BUFFER_ALONE, {"v-1": D("0.0038")})) == []
    assert names(taken_out(view, BUFFER_ALONE, {"v-1": D("0.0037")})) == ["v-2"]


def test_a_sale_that_fills_first_pays_for_what_it_no_longer_pairs() -> None:
    """10 NO sold at 0.70 bring 7.00 less 0.0368, so 6.96."""
    resting = [waiting("v-0", "SELL", "NO", "0.70", 10), waiting("v-1", "BUY", "YES", "0.50", 10)]
    assert names(taken_out(seen("48.09", resting, no=10), BUFFER_ALONE)) == []
    assert names(taken_out(seen("48.08", resting, no=10), BUFFER_ALONE)) == ["v-1"]


def test_the_reason_says_what_would_be_left() -> None:
    found = taken_out(seen("65.14", TEN), BUFFER_ALONE)
    assert [each.why for each in found] == [
        "with the purchases before it: 10 YES leave $49.9900; $50 stays"
    ]
    assert str(found[0]) == (
        "RAIN: BUY 10 YES at $0.50 (v-2) is taken out: with the purchases before it:"
        " 10 YES leave $49.9900; $50 stays"
    )
    alone = taken_out(seen("55.04", TEN[:1]), BUFFER_ALONE)
    assert [each.why for each in alone] == ["filling 10 YES leaves $49.9900; $50 stays"]
    sale = taken_out(seen("0", [waiting("v-0", "SELL", "YES", "0.9", 10)], yes=4), BUFFER_ALONE)
    assert [each.why for each in sale] == ["selling 10 YES; 4 held, 0 of them in resting sales"]


def test_a_purchase_elsewhere_that_came_before_takes_its_cash_first() -> None:
    snow = waiting("v-9", "BUY", "NO", "0.50", 10, market="SNOW")
    assert names(taken_out(seen("60.09", [snow, TEN[0]]), BUFFER_ALONE)) == ["v-0"]
    assert names(taken_out(seen("60.09", [TEN[0], snow]), BUFFER_ALONE)) == []


def test_a_small_purchase_stays_where_an_older_large_one_has_to_go() -> None:
    resting = [TEN[0], waiting("v-1", "BUY", "YES", "0.50", 100), TEN[2]]
    assert names(taken_out(seen("65.00", resting), BUFFER_ALONE)) == ["v-1"]


def test_a_portfolio_that_lost_value_takes_out_what_is_too_large_by_now() -> None:
    """100 YES at 0.50 are $50: a quarter of $200."""
    view = replace(seen("150", [waiting("v-0", "BUY", "YES", "0.50", 100)]), elsewhere=D(50))
    assert taken_out(view, Admission()) == ()
    [found] = taken_out(replace(view, elsewhere=D("49.99")), Admission())
    assert "at most 25% of a portfolio of $199.99" in found.why


def test_together_purchases_keep_to_the_limits_and_what_closes_stays() -> None:
    admission = Admission(PositionLimits(contracts=D(25), share=D(1)))
    closing = waiting("v-3", "BUY", "NO", "0.50", 10)
    assert names(taken_out(seen("1000", [*TEN, closing]), admission)) == ["v-2"]
    by_hand = seen("1000", [*TEN, closing], yes=30)
    assert names(taken_out(by_hand, admission)) == ["v-2", "v-1", "v-0"]


def test_a_purchase_that_opens_once_a_resting_sale_has_filled_counts_as_one_that_opens() -> None:
    admission = Admission(PositionLimits(contracts=D(10), share=D(1)))
    buying = waiting("v-0", "BUY", "YES", "0.40", 20)
    assert taken_out(seen("1000", [buying], no=20), admission) == ()
    [found] = taken_out(
        seen("1000", [buying, waiting("v-1", "SELL", "NO", "0.7", 20)], no=20), admission
    )
    assert found.resting == buying
    assert found.why.startswith("with the sales that rest: 20 contracts after this order")


def test_a_withdrawal_needs_its_reason() -> None:
    with pytest.raises(ValueError, match="v-0: a withdrawal needs its reason"):
        Withdrawal(TEN[0], "")
