"""Calls go through the proxy, Phoenix is told of them, and is asked what it understood."""

import json
import pathlib
import sys
import tempfile

from services import Model, Phoenix, Proxy, upstream, wait_for

CONFIG = """
[proxy]
listen = "127.0.0.1:0"

[admin]
listen = "127.0.0.1:0"

[[upstream]]
name = "model"
base_url = "http://127.0.0.1:{upstream}/v1"

[[price]]
model = "gpt-test*"
input = 2
output = 10
cache_read = 0.5

[otel]
endpoint = "{endpoint}"
protocol = "{protocol}"
conventions = "{conventions}"
metrics = false
content = true
run_idle = "1s"

[otel.resource]
"openinference.project.name" = "{project}"

[otel.headers_env]
x-api-key = "OTLP_KEY"
"""
# 400 fresh tokens at 2, 600 cached ones at 0.5, 50 out at 10, all of it USD per million.
COST = (400 * 2 + 600 * 0.5 + 50 * 10) / 1e6
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


def calls(proxy, run):
    """A planner asks a researcher, who streams; something fails; a client that traces calls by itself."""
    own = {"x-aiops-run": run, "x-aiops-user": "ada", "x-aiops-variant": "b", "x-aiops-tag-team": "search"}
    planner = own | {"x-aiops-path": "/planner"}
    researcher = own | {"x-aiops-path": "/planner/researcher"}
    traced = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "b=2,a=1", "baggage": "user.id=eve"}
    unwanted = {"traceparent": f"00-{'1' * 32}-{PARENT}-00"}
    assert proxy.chat("gpt-test", "Plan a trip to Rome.", planner, tools=TOOLS, top_k=40)[1] == 200
    assert proxy.chat("gpt-test", "Weather in Rome?", researcher, stream=True)[1] == 200
    assert proxy.chat("broken", "Does it work?", planner)[1] == 500
    assert proxy.chat("gpt-test", "Who am I?", traced)[1] == 200
    assert Model.heads[-1]["tracestate"] == "b=2,a=1"
    sent = Model.heads[-1]["traceparent"].split("-")
    assert sent[1] == TRACE and sent[2] != PARENT and sent[3] == "01", sent
    assert proxy.chat("gpt-test", "Nobody looks.", unwanted)[1] == 200
    return sent[2]


def check_call(span, seen, run, said, is_stream):
    """One span as the REST API has it, and as Phoenix sums it up."""
    found = span["attributes"]
    expected = {
        "llm.model_name": "gpt-test-2026",
        "llm.token_count.prompt": 1000,
        "llm.token_count.completion": 50,
        "llm.token_count.total": 1050,
        "llm.token_count.prompt_details.cache_read": 600,
        "llm.token_count.completion_details.reasoning": 20,
        "session.id": run,
        "user.id": "ada",
        "input.value": said,
        "output.value": "Sunny in Rome.",
        "aiops.run": run,
        "aiops.usage.provenance": "reported",
        "aiops.cost.source": "config",
        "gen_ai.request.temperature": 0.5,
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": said,
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Sunny in Rome.",
    }
    wrong = {key: (value, found.get(key)) for key, value in expected.items() if found.get(key) != value}
    assert not wrong, f"expected, found: {wrong}\nin {json.dumps(found, indent=1)}"
    assert span["name"] == "chat gpt-test" and span["span_kind"] == "LLM", span
    assert span["status_code"] != "ERROR", span
    assert abs(found["llm.cost.total"] - COST) < 1e-12, found["llm.cost.total"]
    assert json.loads(found["langfuse.observation.cost_details"]) == {"total": COST}
    assert found.get("gen_ai.request.stream", False) == is_stream
    assert ("gen_ai.response.time_to_first_chunk" in found) == is_stream
    assert seen["tokenCountPrompt"] == 1000 and seen["tokenCountCompletion"] == 50, seen
    assert seen["input"]["value"] == said and seen["output"]["value"] == "Sunny in Rome.", seen
    assert seen["trace"]["session"]["sessionId"] == run, seen


def check_spans(phoenix, project, run, traced_span, conventions):
    spans = phoenix.spans(project)
    seen = phoenix.costs(project)
    named = {}
    for span in spans:
        named.setdefault(span["name"], []).append(span)
    counts = {name: len(of) for name, of in named.items()}
    assert counts == {
        "chat gpt-test": 3,
        "chat broken": 1,
        "invoke_workflow": 1,
        "invoke_agent planner": 1,
        "invoke_agent researcher": 1,
    }, counts
    [root], [planner], [researcher] = (
        named[name] for name in ("invoke_workflow", "invoke_agent planner", "invoke_agent researcher")
    )
    assert root["parent_id"] is None and root["span_kind"] == "CHAIN", root
    assert planner["parent_id"] == root["context"]["span_id"] and planner["span_kind"] == "AGENT", planner
    assert researcher["parent_id"] == planner["context"]["span_id"], researcher
    of_parent = {span["parent_id"]: span for span in named["chat gpt-test"]}
    planned = of_parent[planner["context"]["span_id"]]
    looked_up = of_parent[researcher["context"]["span_id"]]
    traced = of_parent[PARENT]
    assert traced["context"] == {"trace_id": TRACE, "span_id": traced_span}, traced["context"]
    assert "langfuse.trace.name" not in traced["attributes"], "the client names its own trace"
    assert {it["context"]["trace_id"] for it in (root, planner, researcher, planned, looked_up)} == {
        root["context"]["trace_id"]
    }
    for span, said, is_stream in ((planned, "Plan a trip to Rome.", False), (looked_up, "Weather in Rome?", True)):
        check_call(span, seen[span["context"]["span_id"]], run, said, is_stream)
    assert json.loads(planned["attributes"]["gen_ai.tool.definitions"])[0]["name"] == "weather"
    [broken] = named["chat broken"]
    assert broken["status_code"] == "ERROR" and broken["attributes"]["error.type"] == "500", broken
    assert planned["attributes"]["gen_ai.usage.cache_read.input_tokens"] == 600
    top_k = planned["attributes"]["gen_ai.request.top_k"]
    assert isinstance(top_k, float) == (conventions == "semconv-1.41"), (conventions, top_k)


def check_protocol(binary, phoenix, home, port, protocol, conventions):
    project = run = f"trip-{protocol}"
    endpoint = phoenix.url if protocol == "http" else f"http://127.0.0.1:{phoenix.grpc}"
    config = CONFIG.format(
        upstream=port, endpoint=endpoint, protocol=protocol, conventions=conventions, project=project
    )
    proxy = Proxy(binary, home / protocol, config)
    try:
        traced_span = calls(proxy, run)
        wait_for(f"7 spans by {protocol}", lambda: len(phoenix.spans(project)) >= 7)
        check_spans(phoenix, project, run, traced_span, conventions)
        assert proxy.counted("open_aiops_otel_exported_total") == 7
        assert proxy.counted("open_aiops_otel_dropped_total") == 0
        print(f"{protocol}, {conventions}: 7 spans, as they should be")
        return config, proxy, project
    except BaseException:
        print(proxy.text(), file=sys.stderr)
        proxy.stop()
        raise


def check_outage(binary, phoenix, home, proxy, config, project):
    """Phoenix goes away, calls go on, the proxy is started again meanwhile, Phoenix comes back."""
    try:
        phoenix.stop()
        for number in range(20):
            assert proxy.chat("gpt-test", "Still there?", {"x-aiops-run": f"outage-{number % 2}"})[1] == 200
        wait_for("a failure that is counted", lambda: proxy.counted("open_aiops_otel_failures_total") >= 2)
        assert proxy.text().count("collector takes no traces") == 1, proxy.text()
        assert "secret-0123456789" not in proxy.text()
        proxy.stop()
        assert proxy.process.returncode == 0, proxy.text()
        proxy = Proxy(binary, home / "http", config)
        assert proxy.chat("gpt-test", "And now?", {"x-aiops-run": "outage-0"})[1] == 200
        phoenix.start()

        def told():
            of = [span for span in phoenix.spans(project) if span["attributes"]["aiops.run"].startswith("outage-")]
            return of if sum(span["name"] == "chat gpt-test" for span in of) >= 21 else None

        spans = wait_for("all spans of the outage", told)
        ids = [span["context"]["span_id"] for span in spans]
        assert len(ids) == len(set(ids)), "a span was told twice and kept twice"
        assert proxy.counted("open_aiops_otel_dropped_total") == 0
        print("an outage with a restart: 21 calls, all told")
    except BaseException:
        print(proxy.text(), file=sys.stderr)
        raise
    finally:
        proxy.stop()


def main():
    binary, command = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory() as name:
        home, port = pathlib.Path(name), upstream()
        phoenix = Phoenix(command, home)
        phoenix.start()
        try:
            _, proxy, _ = check_protocol(binary, phoenix, home, port, "grpc", "genai-0.1")
            proxy.stop()
            config, proxy, project = check_protocol(binary, phoenix, home, port, "http", "semconv-1.41")
            check_outage(binary, phoenix, home, proxy, config, project)
        finally:
            phoenix.stop()
    print("3 passed, 0 failed")


main()
