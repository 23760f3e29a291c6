"""Generates a world from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from furnisync.sandbox.world.money import COUNTRIES, DIVISORS, USD_RATES
from furnisync.sandbox.world.reviews import ReviewBook
from furnisync.sandbox.world.taxonomy import LEAF_WEIGHTS, OTHER_LEAVES, Taxonomy
from furnisync.sandbox.world.texts import shop_name
from furnisync.sandbox.world.world import RUN_SECONDS, SLOTS, Listing, Price, Shop, World

if TYPE_CHECKING:
    from furnisync.sandbox.options import Options

__all__ = ["Maker", "generate"]

_DAY = 86_400
_HEAVY_PRICES = (19.99, 25, 35, 45, 49, 50, 65, 75, 85, 95, 99, 100, 120, 150, 175, 199, 200, 250)
_HEAVY_PRICES_HIGH = (299, 300, 350, 400, 450, 499, 500, 600, 750, 800, 950, 1200, 1500, 2400)
_ENDED_STATES = ("sold_out", "sold_out", "expired", "inactive", "draft", "removed")
_GIANT_PRICE = Price(2500, 100, "USD")
_GIANT_LEAF = 12371


def generate(options: Options, now: float) -> World:
    """Return the world of `options` as it is on the day of `now`, a unix time.

    The same seed makes the same world on every day, with all times moved by whole days.
    """
    epoch = int(now // _DAY) * _DAY
    reverse = options.ties == "reversed"
    world = World(options.seed, epoch, Taxonomy(), ties_reversed=reverse)
    maker = Maker(world, Random(options.seed), options.images_mean)
    plain, odd = _make_shops(world, maker, options)
    _fill_plain(maker, plain, options)
    _fill_odd(maker, odd)
    for shop in world.shops.values():
        shop.first_ids = [world.listings[serial].listing_id for serial in shop.serials]
    return world


@dataclass(slots=True)
class Maker:
    """Makes listings, at the start and for churn."""

    world: World
    random: Random
    images_mean: float
    _leaves: tuple[list[int], list[float]] | None = None

    def listing(  # each is a choice that some caller makes
        self,
        shop: Shop,
        *,
        taxonomy_id: int | None = None,
        price: Price | None = None,
        state: str = "active",
        born_at: float | None = None,
        images: int | None = None,
    ) -> Listing:
        """Make one listing and add it to the world; churn passes the current time as `born_at`."""
        random, world = self.random, self.world
        original = int(born_at) if born_at is not None else self._original(shop)
        created = original if born_at is not None else self._renewed(shop, original)
        updated = created + int((max(world.epoch, created) - created) * random.random() ** 2)
        removed = state == "removed"
        listing = Listing(
            serial=len(world.listings),
            listing_id=world.fresh_id(original),
            shop=shop,
            taxonomy_id=self.furniture_node() if taxonomy_id is None else taxonomy_id,
            price=price or self.price(shop.currency),
            state="inactive" if removed else state,
            created=created,
            original=original,
            updated=updated,
            state_changed=updated if state != "active" else created,
            quantity=0 if state == "sold_out" else random.choice((1, 1, 1, 2, 5, 20, 999)),
            favorers=int(random.paretovariate(1.0)) - 1,
            views=0 if random.random() < 0.05 else int(random.paretovariate(0.7)),
            slots=tuple(range(self._image_count() if images is None else images)),
            born_at=original if born_at is None else born_at,
            ended_at=None if state == "active" else updated,
            removed=removed,
        )
        world.place(listing)
        return listing

    def furniture_node(self) -> int:
        """Choose a furniture node; some listings are in inner nodes, also in Furniture itself."""
        if self._leaves is None:
            nodes = self.world.taxonomy.furniture()
            weights = [0.25 if n.children else LEAF_WEIGHTS.get(n.id, 1) for n in nodes]
            self._leaves = ([n.id for n in nodes], [float(w) for w in weights])
        return self.random.choices(*self._leaves)[0]

    def price(self, currency: str) -> Price:
        """Choose a price: often a round one, else spread over five powers of ten."""
        random = self.random
        kind = random.random()
        if kind < 0.30:
            value = random.choice(_HEAVY_PRICES)
        elif kind < 0.45:
            value = random.choice(_HEAVY_PRICES_HIGH)
        elif kind > 0.995:
            value = random.uniform(9_000, 300_000)
        else:
            value = min(max(random.lognormvariate(5.2, 1.2), 0.2), 50_000)
        divisor = DIVISORS.get(currency, 100)
        if divisor == 1:
            return Price(max(1, 10 * round(value / USD_RATES[currency] / 10)), 1, currency)
        return Price(round(value * divisor), divisor, currency)

    def _original(self, shop: Shop) -> int:
        return shop.created + int((self.world.epoch - shop.created) * self.random.random())

    def _renewed(self, shop: Shop, original: int) -> int:
        # Sellers renew in bulk, so many listings of a shop share a second.
        last = self.world.listings[shop.serials[-1]] if shop.serials else None
        if last and last.created >= original and self.random.random() < 0.05:
            return last.created
        earliest = max(original, self.world.epoch - RUN_SECONDS)
        return earliest + int((self.world.epoch - earliest) * self.random.random())

    def _image_count(self) -> int:
        random = self.random
        if random.random() < 0.01:
            return 0
        mean = self.images_mean
        return min(max(1, round(random.gauss(mean, mean / 3))), SLOTS)


def _make_shops(
    world: World, maker: Maker, options: Options
) -> tuple[list[Shop], dict[str, list[Shop]]]:
    """Return the plain shops and the odd ones by kind; few shops have no odd ones."""
    shops = [_make_shop(world, maker, n, options.reviews_mean) for n in range(options.shops)]
    odd: dict[str, list[Shop]] = {}
    if options.shops >= 12:
        each = max(1, options.shops // 100)
        for kind in ("hidden", "vacation", "gone", "empty", "no_furniture"):
            odd[kind] = [shops.pop() for _ in range(each)]
    if options.giant_reviews:
        span = (shops[0].created, world.epoch)
        shops[0].book = ReviewBook(world.seed, shops[0].shop_id, options.giant_reviews, span)
    return shops, odd


def _make_shop(world: World, maker: Maker, number: int, reviews_mean: float) -> Shop:
    random = maker.random
    shop_id = 5_000_000 + number * 150 + random.randrange(150)
    weights = [weight for _, _, weight in COUNTRIES]
    country, currency, _ = random.choices(COUNTRIES, weights)[0]
    created = world.epoch - random.randrange(200 * _DAY, 5_000 * _DAY)
    reviews = int(random.expovariate(1 / reviews_mean)) if reviews_mean > 0 else 0
    shop = Shop(
        shop_id=shop_id,
        user_id=10_000_000 + number * 7_001 + random.randrange(7_000),
        name=shop_name(random, number),
        country=country,
        currency=currency,
        created=created,
        updated=created + random.randrange(world.epoch - created),
        favorers=int(random.paretovariate(0.6)) - 1,
        sold=reviews * random.randint(2, 9),
        book=ReviewBook(world.seed, shop_id, reviews, (created, world.epoch)),
    )
    world.shops[shop_id] = shop
    return shop


def _fill_plain(maker: Maker, shops: list[Shop], options: Options) -> None:
    """Give the shops exactly the requested number of findable furniture listings, and others."""
    sizes = _sizes(maker.random, len(shops), options)
    first_priced = options.giant_shop
    if options.listings - options.giant_shop < options.giant_price:
        first_priced = options.listings - options.giant_price
    number = 0
    for shop, size in zip(shops, sizes, strict=True):
        for _ in range(size):
            if first_priced <= number < first_priced + options.giant_price:
                price = Price(_GIANT_PRICE.amount, _GIANT_PRICE.divisor, _GIANT_PRICE.currency)
                maker.listing(shop, price=price, taxonomy_id=_GIANT_LEAF)
            else:
                maker.listing(shop)
            number += 1
        _add_others(maker, shop, size)


def _add_others(maker: Maker, shop: Shop, size: int) -> None:
    random = maker.random
    for _ in range(round(size * 0.12 * random.random())):
        maker.listing(shop, taxonomy_id=random.choice(OTHER_LEAVES))
    for _ in range(round(size * 0.10 * random.random() + 0.3)):
        maker.listing(shop, state=random.choice(_ENDED_STATES))


def _sizes(random: Random, count: int, options: Options) -> list[int]:
    """Distribute the listings: Pareto, at least one a shop if there are enough."""
    giant = [options.giant_shop] if options.giant_shop and count > 1 else []
    total = options.listings - sum(giant)
    plain = count - len(giant)
    weights = [random.paretovariate(1.05) for _ in range(plain)]
    floor = 1 if total >= plain else 0
    scale = (total - floor * plain) / sum(weights)
    sizes = [floor + int(weight * scale) for weight in weights]
    for number in range(total - sum(sizes)):
        sizes[number % plain] += 1
    return giant + sizes


def _fill_odd(maker: Maker, odd: dict[str, list[Shop]]) -> None:
    for kind, shops in odd.items():
        for shop in shops:
            shop.searchable = kind != "hidden"
            shop.vacation = kind == "vacation"
            shop.gone = kind == "gone"
            for number in range(0 if kind == "empty" else 8):
                other = kind == "no_furniture" or number == 7
                node = OTHER_LEAVES[number % len(OTHER_LEAVES)] if other else None
                maker.listing(shop, taxonomy_id=node)
