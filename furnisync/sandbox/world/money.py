"""Currencies, their rates to the dollar, and prices as the API writes them."""

from __future__ import annotations

from typing import Any

__all__ = ["COUNTRIES", "DIVISORS", "USD_RATES", "convert", "money_json", "to_usd"]

# Dollars for one unit. Unrounded on purpose: a price that is round in its own currency
# falls between the cents in dollars, which is where interval cuts go wrong.
USD_RATES = {
    "USD": 1.0,
    "EUR": 1.0837461,
    "GBP": 1.2713902,
    "CAD": 0.7318254,
    "AUD": 0.6549177,
    "PLN": 0.2519433,
    "JPY": 0.0066431,
    "MAD": 0.0994127,
}

DIVISORS = {"JPY": 1}

# Country, its currency, and its percentage of shops.
COUNTRIES: tuple[tuple[str, str, int], ...] = (
    ("US", "USD", 55),
    ("GB", "GBP", 12),
    ("DE", "EUR", 8),
    ("FR", "EUR", 6),
    ("CA", "CAD", 6),
    ("UA", "USD", 4),
    ("PL", "PLN", 3),
    ("AU", "AUD", 2),
    ("JP", "JPY", 2),
    ("MA", "MAD", 2),
)


def to_usd(amount: int, divisor: int, currency: str) -> float:
    """Return the price in dollars, with which the search compares price filters."""
    return amount / divisor * USD_RATES[currency]


def money_json(amount: int, divisor: int, currency: str) -> dict[str, Any]:
    """Return a price as the API writes it."""
    return {"amount": amount, "divisor": divisor, "currency_code": currency}


def convert(usd: float, currency: str) -> dict[str, Any]:
    """Return a dollar price in another currency, rounded to its smallest unit."""
    divisor = DIVISORS.get(currency, 100)
    return money_json(round(usd / USD_RATES[currency] * divisor), divisor, currency)
