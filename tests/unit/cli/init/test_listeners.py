"""What Go code listens on."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgroup_preflight.cli.init.listeners import Listening, listening, sure_port


def port(*files: str) -> int | None:
    return sure_port([listening(text) for text in files])


@pytest.mark.parametrize("code", [
    'http.ListenAndServe(":8080", nil)', 'http.ListenAndServe(`:8080`, nil)', 'http.ListenAndServeTLS("0.0.0.0:8080", c, k, nil)',
    'net.Listen("tcp", "127.0.0.1:8080")', 'lc.Listen(ctx, "tcp4", "[::]:8080")', 'tls.Listen("tcp", "[::1]:8080", cfg)',
    'http.Server{\n\tHandler: mux,\n\tAddr: ":8080",\n}', '&http.Server{Addr: "localhost:8080"}', 'r.Run(":8080")',
    'e.Start(":8080")', 'app.Listen(":8080")', 'const addr = ":8080"\nhttp.ListenAndServe(addr, nil)',
    'port := os.Getenv("PORT")\nif port == "" {\n\tport = "8080"\n}\nhttp.ListenAndServe(":" + port, nil)',
    'addr := flag.String("listen-address", ":8080", "x")\nhttp.ListenAndServe(*addr, nil)',
    'pflag.StringVarP(&addr, "addr", "a", ":8080", "x")', 'flag.Int("port", 8080, "")', 'fs.IntVar(&x, "http-port", 8080, "")',
    'flag.Int("httpPort", 8080, "")', 'app.Flag("web.listen-address", "where").Default(":8080")', 'webflag.AddFlags(app, ":8080")',
])  # fmt: skip
def test_a_port_without_doubt(code: str) -> None:
    assert port(code) == 8080


@pytest.mark.parametrize("code", [
    'net.Dial("tcp", "127.0.0.1:8080")', 'http.Get("http://localhost:8080/")', 'var a = ":8080"', 'net.Listen("tcp", ":0")',
    'net.Listen("unix", "/run/x:8080")', 'net.ListenPacket("udp", ":8080")', "http.ListenAndServe(cfg.Addr, nil)",
    'http.ListenAndServe(":99999", nil)', 'addr := ":8080"\naddr = cfg.Addr\nhttp.ListenAndServe(addr, nil)',
    'flag.String("server", ":8080", "")', 'flag.String("addr", "127.0.0.1:8080", "")', 'flag.String("ldap.upstream", ":8080", "")',
    'flag.Int("retries", 8080, "")', 'http.ListenAndServe(":8080", nil)\nhttp.ListenAndServe(":9090", nil)',
    'http.ListenAndServe("localhost:8080", nil)\nnet.Listen("tcp", cfg.Addr)', 'flag.String("addr", ":8080", "")\nflag.Int("port", 81, "")',
])  # fmt: skip
def test_a_port_in_doubt_is_none(code: str) -> None:
    assert port(code) is None


@pytest.mark.parametrize(("code", "sure"), [
    ('root.AddCommand(serve)', False), ('app.Command("serve", "x")', False), ("&cli.Command{}", False),
    ('exec.Command("git", "log")', True), ("cmd.Commands()", True),
])  # fmt: skip
def test_a_program_with_commands_of_its_own_opens_nothing_without_one(code: str, sure: bool) -> None:
    assert port('http.ListenAndServe(":8080", nil)', code) == (8080 if sure else None)


@pytest.mark.parametrize("flag", [
    'flag.String("remote-write.address", ":8080", "")', 'flag.Int("smtp-port", 8080, "")', 'flag.Int("target.port", 8080, "")',
])  # fmt: skip
def test_a_flag_of_something_else_names_no_port(flag: str) -> None:
    assert port(flag) is None


def test_a_second_listener_anywhere_is_a_doubt() -> None:
    one = 'http.ListenAndServe(":8080", nil)'
    assert port(one, "package x") == 8080
    assert port(one, one) == 8080
    assert port(one, 'net.Listen("tcp", cfg.Addr)') is None
    assert port(one, 'flag.String("web.addr", ":9090", "")') is None


@pytest.mark.parametrize(("code", "serves"), [
    ("grpc.NewServer(opts...)", {"gRPC"}), ("http.Serve(l, nil)", {"HTTP"}), ("&http.Server{}", {"HTTP"}),
    ("gin.Default()", {"HTTP"}), ("web.ListenAndServe(srv, flags, log)", {"HTTP", "TCP"}), ("s.ListenAndServe()", {"TCP"}),
    ('net.Listen("tcp", addr)', {"TCP"}), ("activation.Listeners()", {"TCP"}), ('net.Listen("tcp", "127.0.0.1:0")', set()),
    ("httptest.NewServer(h)", set()), ("http.Client{}", set()), ("grpc.NewClient(addr)", set()), ("http.DefaultServeMux", set()),
])  # fmt: skip
def test_what_is_served(code: str, serves: set[str]) -> None:
    assert listening(code).serves == serves


@pytest.mark.parametrize(("code", "runs"), [
    ("signal.Notify(c, syscall.SIGTERM)", True), ("time.NewTicker(d)", True), ("select {}", True), ("for { f(); time.Sleep(d) }", True),
    ("signal.Notify(c, os.Interrupt)", False), ("for { read() }", False), ("time.Sleep(d)", False), ("for i := range 3 { time.Sleep(d) }", False),
])  # fmt: skip
def test_what_runs_until_it_is_stopped(code: str, runs: bool) -> None:
    assert listening(code).runs is runs


@given(
    st.lists(
        st.sampled_from(
            ["http.Server{", "Addr: ", '":80"', "a", " = ", "\n", 'flag.String("addr", ', "http.ListenAndServe(", ")"]
        )
    )
)
def test_any_code_is_read(pieces: list[str]) -> None:
    assert isinstance(listening("".join(pieces)), Listening)


@pytest.mark.parametrize("piece", [
    "for {", "http.Server{", "Addr: ", "http.ListenAndServe(a\n", "a = ", "a ", 'flag.String(&a,"', 'Flag("a",', "Flag(\n",
    'net.Listen("tcp",a\n', "select {", "a:=a\n", " ", "\n",
])  # fmt: skip
def test_no_code_takes_long(piece: str) -> None:
    started = time.process_time()
    listening("http.ListenAndServe(a, nil)\n" + piece * (200_000 // len(piece)))
    assert time.process_time() - started < 5
