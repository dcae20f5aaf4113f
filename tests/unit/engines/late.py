"""A machine some of whose answers come late: what they say was so when it was asked."""

from collections.abc import Callable


class Late:
    """As `inner`, whose methods are questions; each is counted together with those of the others that share `counts`."""

    def __init__(self, inner: object, counts: "Counts") -> None:
        self._inner, self._counts = inner, counts

    def __getattr__(self, name: str) -> object:
        found = getattr(self._inner, name)
        return self._counts.question(name, found) if callable(found) else found


class Counts:
    """Which question of all is answered late: the one with number `late` (from 1 on), by `seconds` of the played clock."""

    def __init__(self, sleep: Callable[[float], None], late: int, seconds: float) -> None:
        self._sleep, self._late, self._seconds = sleep, late, seconds
        self.count = 0
        self.said = ""

    def question(self, name: str, method: Callable[..., object]) -> Callable[..., object]:
        """The method, as one that can be answered late."""

        def asked(*words: object, **options: object) -> object:
            self.count += 1
            mine = self.count
            answer = method(*words, **options)
            if mine == self._late:
                self.said = name
                self._sleep(self._seconds)
            return answer

        return asked
