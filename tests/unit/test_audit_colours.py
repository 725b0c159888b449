"""The marks of services: by name alone, told apart, and the same from one picture to the next."""

import random

from bdserver.audit.colours import DARK, LETTERS, LIGHT, marks

NAMES = ["Primes", "TimeOfDay", "Temperature", "Orders", "Stock", "Users", "Mail", "Search", "Billing", "Maps"]


def test_a_mark_is_by_name_and_not_by_place():
    first = marks(NAMES)
    assert first == marks(reversed(NAMES)) == marks(set(NAMES)) and first.keys() == set(NAMES)
    assert first["Primes"].letter == "P" and first["Orders"].letter == "O"
    assert marks(["Primes"])["Primes"] == first["Primes"], "whatever else there is"
    assert marks(["Primes"])["Primes"] == (1, "P"), "and in whichever process: written down, not drawn anew"


def test_a_service_that_comes_or_goes_leaves_the_others_as_they_are():
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    changed = 0
    for _ in range(200):
        names = {"".join(rng.choices("abcdefghij", k=8)) for _ in range(12)}
        before, after = marks(names), marks(names | {"newcomer"})
        assert all(before[name].colour == after[name].colour for name in names), f"seed {seed}"
        changed += sum(before[name] != after[name] for name in names)
    assert changed <= 40, f"seed {seed}: a letter changes where two collide, and hardly ever else"


def test_no_two_services_are_alike_while_there_are_letters():
    for count in (7, 40, 100):
        assert len(set(marks(f"service-{number}" for number in range(count)).values())) == count
    many = marks(f"s{number}" for number in range(3000))
    assert len(many) == 3000 and len(set(many.values())) == len(LETTERS) * len(LIGHT.services)


def test_any_text_has_a_mark():
    assert all(mark.letter in LETTERS for mark in marks(["", "...", "\ud800", "ßé", "\N{SNOWMAN}"]).values())


def test_a_colour_of_the_light_is_one_of_the_dark():
    assert len(LIGHT.services) == len(DARK.services) and len(LIGHT) == len(DARK)
