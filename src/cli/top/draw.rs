//! A frame of what is looked at.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Clear, Paragraph, Row, Table, TableState};

use super::super::format;
use super::super::table::printable;
use super::NOTE;
use super::screen::{Account, Rate, Screen, View, now};
use super::shot::Shot;
use crate::admin::view::{
    CallView, LoopView, MeasureView, OPEN, RunAgentView, RunView, TotalsView,
};
use crate::core::budget::Control;
use crate::core::budget::amounts::micro_text;
use crate::core::id::Label;
use crate::core::money::NanoUsd;
use crate::core::time::Timestamp;

const BAR: usize = 12;
const QUIET: Style = Style::new().fg(Color::DarkGray);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const WARN: Style = Style::new().fg(Color::Yellow);
const GOOD: Style = Style::new().fg(Color::Green);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);

pub(super) fn draw(frame: &mut Frame<'_>, screen: &Screen) {
    let [head, body, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    frame.render_widget(head_of(screen), head);
    match &screen.shot {
        None => frame.render_widget(
            Paragraph::new("asking the proxy\u{2026}").style(QUIET),
            body,
        ),
        Some(shot) => draw_body(frame, screen, shot, body),
    }
    frame.render_widget(foot_of(screen), foot);
    if screen.shows_help {
        let area = centred(frame.area(), 76, 12);
        frame.render_widget(Clear, area);
        frame.render_widget(
            Paragraph::new(NOTE).block(Block::bordered().title(" keys ")),
            area,
        );
    }
}

fn centred(within: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(within.width), height.min(within.height));
    Rect {
        x: within.x + (within.width - width) / 2,
        y: within.y + (within.height - height) / 2,
        width,
        height,
    }
}

fn head_of(screen: &Screen) -> Paragraph<'static> {
    let Some(shot) = &screen.shot else {
        return Paragraph::new(Span::styled("Open-AIOps", HEAD));
    };
    let status = &shot.status;
    let mut first = vec![
        Span::styled("Open-AIOps ", HEAD),
        Span::raw(format!(
            "{}   up {}   proxy {}   ",
            status.version,
            format::duration(status.uptime_us),
            status.listeners.proxy
        )),
    ];
    first.push(match (status.ledger.figures.failing, status.draining) {
        (true, _) => Span::styled("ledger failing", BAD),
        (_, true) => Span::styled("ending", WARN),
        _ => Span::styled("ledger ok", GOOD),
    });
    if screen.is_held {
        first.push(Span::styled("   HELD", WARN));
    }
    let running: u64 = shot.runs.iter().map(|run| run.open_calls).sum();
    let rate = screen.rate_of_all().unwrap_or_default();
    let second = format!(
        "{} runs listed   {running} calls running   {} calls/min   {} tokens/min   {}/min",
        shot.runs.len(),
        format::count(rate.calls),
        format::count(rate.tokens),
        NanoUsd::new(rate.nano_usd).brief(),
    );
    Paragraph::new(vec![Line::from(first), Line::raw(second), tabs(screen)])
}

fn tabs(screen: &Screen) -> Line<'static> {
    let names = ["1 Runs", "2 Agents", "3 Budgets", "4 Loops"];
    let mut spans = Vec::new();
    for (view, name) in View::LISTS.iter().zip(names) {
        let style = if *view == screen.view {
            Style::new().add_modifier(Modifier::REVERSED)
        } else {
            QUIET
        };
        spans.push(Span::styled(format!(" {name} "), style));
        spans.push(Span::raw(" "));
    }
    if let View::Run(run) = &screen.view {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        spans.push(Span::styled(
            format!(" {} ", printable(run.as_str())),
            style,
        ));
    }
    if screen.is_typing || !screen.filter.is_empty() {
        let cursor = if screen.is_typing { "_" } else { "" };
        spans.push(Span::styled(format!("  /{}{cursor}", screen.filter), WARN));
    }
    Line::from(spans)
}

fn foot_of(screen: &Screen) -> Paragraph<'static> {
    let said = if let Some(deed) = &screen.asked {
        let told = format!(
            "{} {}? Its running calls end, new ones are refused.  y = yes, any other key = no",
            deed.kind.word(),
            printable(deed.run.as_str())
        );
        Line::styled(told, BAD)
    } else if let Some(wrong) = &screen.missed {
        Line::styled(format!("not answered: {}", printable(wrong)), BAD)
    } else if let Some((told, is_bad)) = &screen.told {
        Line::styled(printable(told), if *is_bad { BAD } else { GOOD })
    } else {
        Line::raw("")
    };
    let keys =
        "j/k choose  enter open  p pause  r resume  s stop  / filter  space hold  ? keys  q quit";
    Paragraph::new(vec![said, Line::styled(keys, QUIET)])
}

fn draw_body(frame: &mut Frame<'_>, screen: &Screen, shot: &Shot, area: Rect) {
    match &screen.view {
        View::Runs => {
            let trips: Vec<&LoopView> = shot.loops.iter().take(4).collect();
            let height = u16::try_from(trips.len()).unwrap_or(0) + 2;
            let below = if trips.is_empty() { 0 } else { height };
            let [list, last] =
                Layout::vertical([Constraint::Min(3), Constraint::Length(below)]).areas(area);
            rows(frame, runs(screen), screen.row(), list);
            if !trips.is_empty() {
                rows(
                    frame,
                    loops(&trips, now(shot)).block(titled("last loops")),
                    None,
                    last,
                );
            }
        }
        View::Agents => rows(frame, agents(screen), screen.row(), area),
        View::Budgets => rows(frame, accounts(&screen.accounts()), screen.row(), area),
        View::Loops => rows(frame, loops(&screen.loops(), now(shot)), screen.row(), area),
        View::Run(run) => one_run(frame, screen, shot, run, area),
    }
}

fn rows(frame: &mut Frame<'_>, table: Table<'_>, chosen: Option<usize>, area: Rect) {
    let table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::new().with_selected(chosen);
    frame.render_stateful_widget(table, area, &mut state);
}

fn titled(title: &str) -> Block<'static> {
    Block::new().title(Line::styled(title.to_owned(), HEAD))
}

fn right(text: String) -> Cell<'static> {
    Cell::new(Line::raw(text).right_aligned())
}

fn head(names: &[&'static str], first_right: usize) -> Row<'static> {
    let cells = names.iter().enumerate().map(|(index, name)| {
        let line = Line::raw(*name);
        Cell::new(if index >= first_right {
            line.right_aligned()
        } else {
            line
        })
    });
    Row::new(cells.collect::<Vec<_>>()).style(QUIET)
}

fn cost(totals: &TotalsView) -> String {
    let known = totals.cost_nano_usd;
    match totals.unpriced_calls {
        0 => known.brief(),
        _ if known == NanoUsd::ZERO => format::UNKNOWN.to_owned(),
        _ => format!("{}+{}", known.brief(), format::UNKNOWN),
    }
}

fn tokens(totals: &TotalsView) -> String {
    format::count(totals.input_tokens + totals.output_tokens)
}

fn per_minute(rate: Option<Rate>) -> [Cell<'static>; 2] {
    let rate = rate.filter(|rate| *rate != Rate::default());
    let text = |text: Option<String>| right(text.unwrap_or_else(|| "-".to_owned()));
    [
        text(rate.map(|rate| format::count(rate.calls))),
        text(rate.map(|rate| NanoUsd::new(rate.nano_usd).brief())),
    ]
}

fn state(run: &RunView) -> Span<'static> {
    match run.control {
        Control::Paused => Span::styled("paused", WARN),
        Control::Stopped => Span::styled("stopped", BAD),
        Control::Running if run.open_calls > 0 => Span::styled("running", GOOD),
        Control::Running => Span::styled("idle", QUIET),
    }
}

/// `######......  52 %`, as far as it is used and held.
fn bar(used_permille: u32) -> Vec<Span<'static>> {
    let used = usize::try_from(used_permille).unwrap_or(1000).min(1000);
    let full = used * BAR / 1000;
    let style = match used {
        0..800 => GOOD,
        800..1000 => WARN,
        _ => BAD,
    };
    vec![
        Span::styled("\u{2588}".repeat(full), style),
        Span::styled("\u{2591}".repeat(BAR - full), QUIET),
        Span::raw(format!(" {:>3} %", used / 10)),
    ]
}

fn runs(screen: &Screen) -> Table<'static> {
    let list = screen.runs().into_iter().map(|run| {
        let budget = screen.account_of_run(&run.run);
        let budget = budget.map_or_else(
            || Line::styled("-", QUIET),
            |account| Line::from(bar(account.account.used_permille)),
        );
        let agents: Vec<&str> = run.agents.iter().map(Label::as_str).collect();
        let [calls, spend] = per_minute(screen.rate_of_run(&run.run));
        Row::new(vec![
            Cell::new(state(run)),
            Cell::new(printable(run.run.as_str())),
            Cell::new(printable(&agents.join(" "))),
            right(format::count(run.totals.calls)),
            right(format::count(run.totals.errors)),
            right(tokens(&run.totals)),
            right(cost(&run.totals)),
            calls,
            spend,
            Cell::new(budget),
        ])
    });
    let widths = [
        Constraint::Length(8),
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(12),
        Constraint::Length(11),
        Constraint::Length(9),
        Constraint::Length(10),
        Constraint::Length(19),
    ];
    let names = [
        "STATE",
        "RUN",
        "AGENTS",
        "CALLS",
        "FAILED",
        "TOKENS",
        "COST",
        "CALLS/MIN",
        "COST/MIN",
        "BUDGET",
    ];
    let head = head(&names, 3);
    Table::new(list, widths).header(head).column_spacing(1)
}

fn agents(screen: &Screen) -> Table<'static> {
    let list = screen.agents().into_iter().map(|agent| {
        let models: Vec<&str> = agent.models.iter().map(Label::as_str).collect();
        let [calls, spend] = per_minute(screen.rate_of_agent(&agent.agent));
        Row::new(vec![
            Cell::new(printable(agent.agent.as_str())),
            Cell::new(printable(&models.join(" "))),
            right(format::count(agent.open_calls)),
            right(format::count(agent.figures.totals.calls)),
            right(format::count(agent.figures.totals.errors)),
            right(tokens(&agent.figures.totals)),
            right(cost(&agent.figures.totals)),
            calls,
            spend,
        ])
    });
    let widths = [
        Constraint::Fill(2),
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(13),
        Constraint::Length(12),
        Constraint::Length(9),
        Constraint::Length(11),
    ];
    let names = [
        "AGENT",
        "MODELS",
        "RUNNING",
        "CALLS",
        "FAILED",
        "TOKENS",
        "COST",
        "CALLS/MIN",
        "COST/MIN",
    ];
    Table::new(list, widths)
        .header(head(&names, 2))
        .column_spacing(1)
}

fn accounts(accounts: &[Account<'_>]) -> Table<'static> {
    let list = accounts.iter().map(|Account { budget, account }| {
        let measures = account.measures.iter();
        let measures = measures.map(|it| measure(it, account.metric.as_deref()));
        let style = match account.state.as_str() {
            "spent" => BAD,
            "warning" | "passed" => WARN,
            _ => Style::new(),
        };
        Row::new(vec![
            Cell::new(printable(budget.name.as_str())),
            Cell::new(printable(&account.key_text)),
            Cell::new(Span::styled(account.state.clone(), style)),
            Cell::new(Line::from(bar(account.used_permille))),
            Cell::new(measures.collect::<Vec<_>>().join(", ")),
            right(format::count(account.refused)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Fill(2),
        Constraint::Length(8),
        Constraint::Length(19),
        Constraint::Fill(2),
        Constraint::Length(8),
    ];
    let names = ["BUDGET", "KEY", "STATE", "USED", "OF THE LIMIT", "REFUSED"];
    Table::new(list, widths)
        .header(head(&names, 5))
        .column_spacing(1)
}

fn measure(measure: &MeasureView, metric: Option<&str>) -> String {
    match measure {
        MeasureView::Usd(usd) => {
            let held = match usd.held_nano_usd {
                NanoUsd::ZERO => String::new(),
                held => format!(" + {held} held"),
            };
            format!("{}{held} of {}", usd.used_nano_usd, usd.limit_nano_usd)
        }
        MeasureView::Metric(it) => format!(
            "{} of {} {}",
            micro_text(it.used_micro_metric),
            micro_text(it.limit_micro_metric),
            metric.unwrap_or("metric")
        ),
        MeasureView::Counted(counted) => format!(
            "{} of {} {}",
            counted.used,
            counted.limit,
            counted.measure.name()
        ),
    }
}

fn loops(loops: &[&LoopView], now: Timestamp) -> Table<'static> {
    let list = loops.iter().map(|it| {
        let ago = format!("{} ago", format::duration(now.micros_since(it.at)));
        let is_open = if it.is_open {
            Span::styled("open", BAD)
        } else {
            Span::styled("closed", QUIET)
        };
        let signal: &'static str = it.signal.into();
        Row::new(vec![
            Cell::new(is_open),
            right(ago),
            Cell::new(
                it.run
                    .as_ref()
                    .map_or("-".to_owned(), |run| printable(run.as_str())),
            ),
            Cell::new(printable(it.agent.as_str())),
            Cell::new(format!("{signal} x{}", it.count)),
            right(format::count(u64::from(it.refused))),
            Cell::new(printable(&it.sample.join(" | "))),
        ])
    });
    let widths = [
        Constraint::Length(7),
        Constraint::Length(11),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(16),
        Constraint::Length(8),
        Constraint::Fill(3),
    ];
    let names = ["LOOP", "WHEN", "RUN", "AGENT", "PATTERN", "REFUSED", "WHAT"];
    Table::new(list, widths)
        .header(head(&names, names.len()))
        .column_spacing(1)
}

fn one_run(frame: &mut Frame<'_>, screen: &Screen, shot: &Shot, run: &Label, area: Rect) {
    let Some(detail) = shot.run.as_ref().filter(|detail| detail.run.run == *run) else {
        let told = format!(
            "{}: asking, or nothing is recorded of it",
            printable(run.as_str())
        );
        return frame.render_widget(Paragraph::new(told).style(QUIET), area);
    };
    let agents = u16::try_from(detail.by_agent.len()).unwrap_or(8).min(8) + 2;
    let [facts, by_agent, calls] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(agents),
        Constraint::Min(3),
    ])
    .areas(area);
    let totals = &detail.run.totals;
    let mut line = vec![
        state(&detail.run),
        Span::raw(format!(
            "   {} calls, {} failed   {} tokens   {}   ",
            format::count(totals.calls),
            format::count(totals.errors),
            tokens(totals),
            cost(totals)
        )),
    ];
    if let Some(account) = screen.account_of_run(run) {
        line.extend(bar(account.account.used_permille));
        line.push(Span::styled(
            format!(" of {}", printable(account.budget.name.as_str())),
            QUIET,
        ));
    }
    frame.render_widget(Paragraph::new(Line::from(line)), facts);
    rows(
        frame,
        agents_of_run(&detail.by_agent).block(titled("agents")),
        None,
        by_agent,
    );
    let block = titled("latest calls");
    rows(
        frame,
        calls_of_run(&shot.calls).block(block),
        screen.row(),
        calls,
    );
}

fn agents_of_run(agents: &[RunAgentView]) -> Table<'static> {
    let list = agents.iter().map(|agent| {
        Row::new(vec![
            Cell::new(printable(agent.agent.as_str())),
            right(format::count(agent.open_calls)),
            right(format::count(agent.totals.calls)),
            right(tokens(&agent.totals)),
            right(cost(&agent.totals)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(13),
        Constraint::Length(12),
    ];
    let names = ["AGENT", "RUNNING", "CALLS", "TOKENS", "COST"];
    Table::new(list, widths)
        .header(head(&names, 1))
        .column_spacing(1)
}

fn calls_of_run(calls: &[CallView]) -> Table<'static> {
    let list = calls.iter().map(|call| {
        let outcome = match call.outcome.as_str() {
            OPEN => Span::styled("running", GOOD),
            "completed" => Span::raw("completed"),
            other => Span::styled(other.to_owned(), BAD),
        };
        let used = &call.usage;
        let name =
            |label: Option<&Label>| label.map_or("-".to_owned(), |it| printable(it.as_str()));
        Row::new(vec![
            Cell::new(format::time(call.started_at)),
            Cell::new(printable(call.agent.as_str())),
            Cell::new(name(call.caller.as_ref())),
            Cell::new(name(call.model.as_ref())),
            Cell::new(outcome),
            right(format::count(used.input_tokens)),
            right(format::count(used.output_tokens)),
            right(format::cost(call.cost_nano_usd)),
            right(call.duration_us.map_or("-".to_owned(), format::duration)),
        ])
    });
    let widths = [
        Constraint::Length(19),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(14),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(13),
        Constraint::Length(8),
    ];
    let names = [
        "STARTED (UTC)",
        "AGENT",
        "CALLER",
        "MODEL",
        "OUTCOME",
        "INPUT",
        "OUTPUT",
        "COST",
        "TOOK",
    ];
    Table::new(list, widths)
        .header(head(&names, 5))
        .column_spacing(1)
}
