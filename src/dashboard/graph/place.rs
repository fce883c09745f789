//! Where the nodes and edges of a graph stand: from left to right, as whole pixels.
//!
//! A pure function of the graph's shape, so that a drawing stays as it is while only its figures
//! change. The crate `dagre` does it; what it answers is looked at before it is believed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use dagre::graph::{Graph, GraphOptions};
use dagre::{EdgeLabel, LayoutOptions, NodeLabel, Point, RankDir, Ranker};

/// Every node is this large.
pub(super) const WIDTH: i32 = 168;
pub(super) const HEIGHT: i32 = 56;
/// Room that is kept free around the middle of the label of an edge.
pub(super) const LABEL_WIDTH: i32 = 88;
pub(super) const LABEL_HEIGHT: i32 = 20;

const MARGIN: i32 = 16;
/// Between the nodes of one column, and between columns.
const BETWEEN: i32 = 32;
/// Shapes that are remembered.
const REMEMBERED: usize = 32;

/// What a graph looks like, whatever it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    /// From and to, by number of the node; each pair once.
    pub(super) edges: Vec<(usize, usize)>,
}

/// A point.
pub(super) type At = (i32, i32);

/// Where everything stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) width: i32,
    pub(super) height: i32,
    /// The middle of each node.
    pub(super) nodes: Vec<At>,
    pub(super) edges: Vec<Route>,
}

/// The way of an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// From the one node to the other; at least two.
    pub(super) points: Vec<At>,
    /// The middle of its label.
    pub(super) label: At,
}

/// Places a graph. Edges that name no node of it are an error of the caller and go nowhere.
pub(super) fn place(shape: &Shape) -> Placed {
    // What does not know us may panic; that must cost a nicer drawing at most.
    let placed = catch_unwind(AssertUnwindSafe(|| with_dagre(shape)));
    let placed = placed.ok().flatten().filter(is_sound);
    placed.unwrap_or_else(|| in_rows(shape))
}

/// A shape and where it stands, once somebody has worked that out.
type Layout = (Shape, Arc<OnceLock<Arc<Placed>>>);

/// Shapes that were placed lately: a live page draws the same one over and over.
#[derive(Debug, Default)]
pub(in crate::dashboard) struct Layouts(Mutex<VecDeque<Layout>>);

impl Layouts {
    pub(super) fn get(&self, shape: &Shape) -> Arc<Placed> {
        self.get_by(shape, place)
    }

    /// Whoever asks while a shape is being placed waits for that.
    fn get_by(&self, shape: &Shape, place: impl FnOnce(&Shape) -> Placed) -> Arc<Placed> {
        let layout = self.layout(shape);
        Arc::clone(layout.get_or_init(|| Arc::new(place(shape))))
    }

    fn layout(&self, shape: &Shape) -> Arc<OnceLock<Arc<Placed>>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, layout)) = known.iter().find(|(its, _)| its == shape) {
            return Arc::clone(layout);
        }
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        let layout = Arc::default();
        known.push_back((shape.clone(), Arc::clone(&layout)));
        layout
    }
}

fn with_dagre(shape: &Shape) -> Option<Placed> {
    let options = GraphOptions {
        directed: true,
        multigraph: true,
        compound: false,
    };
    let mut graph = Graph::with_options(options);
    for node in 0..shape.nodes {
        let label = NodeLabel {
            width: f64::from(WIDTH),
            height: f64::from(HEIGHT),
            ..NodeLabel::default()
        };
        graph.set_node(name(node), Some(label));
    }
    let turned = against_the_flow(shape);
    for (number, ((from, to), turned)) in shape.edges.iter().zip(&turned).enumerate() {
        let (from, to) = if *turned { (to, from) } else { (from, to) };
        let label = EdgeLabel {
            width: f64::from(LABEL_WIDTH),
            height: f64::from(LABEL_HEIGHT),
            labelpos: dagre::layout::types::LabelPos::Center,
            ..EdgeLabel::default()
        };
        graph.set_edge(name(*from), name(*to), Some(label), Some(&name(number)));
    }
    let options = LayoutOptions {
        rankdir: RankDir::LR,
        nodesep: f64::from(BETWEEN),
        edgesep: f64::from(BETWEEN) / 2.0,
        ranksep: f64::from(BETWEEN),
        marginx: f64::from(MARGIN),
        marginy: f64::from(MARGIN),
        // The other one turns in circles without a bound.
        ranker: Ranker::TightTree,
        ..LayoutOptions::default()
    };
    dagre::layout(&mut graph, Some(options));
    read(shape, &turned, &graph)
}

/// What `dagre` answered, if it has an answer for everything.
fn read(shape: &Shape, turned: &[bool], graph: &Graph<NodeLabel, EdgeLabel>) -> Option<Placed> {
    let mut nodes = Vec::with_capacity(shape.nodes);
    for node in 0..shape.nodes {
        let label = graph.node(&name(node))?;
        nodes.push((pixel(label.x?)?, pixel(label.y?)?));
    }
    let mut edges = Vec::with_capacity(shape.edges.len());
    for (number, ((from, to), turned)) in shape.edges.iter().zip(turned).enumerate() {
        let (start, end) = if *turned { (to, from) } else { (from, to) };
        let label = graph.edge(&name(*start), &name(*end), Some(&name(number)))?;
        let point = |point: &Point| Some((pixel(point.x)?, pixel(point.y)?));
        let mut points: Vec<At> = label.points.iter().map(point).collect::<Option<_>>()?;
        if *turned {
            points.reverse();
        }
        let label = (pixel(label.x?)?, pixel(label.y?)?);
        edges.push(Route { points, label });
    }
    let mut placed = within(nodes, edges);
    tie(shape, &mut placed);
    Some(placed)
}

/// Lets edges begin and end at the sides of their nodes, one below the other, and a node's edge to
/// itself hang under it.
fn tie(shape: &Shape, placed: &mut Placed) {
    let ends = ends_at_sides(shape, placed);
    for (number, (from, to)) in shape.edges.iter().enumerate() {
        let (Some(route), Some(node)) = (placed.edges.get_mut(number), placed.nodes.get(*from))
        else {
            continue;
        };
        if from == to {
            route.points = hanging(*node, route.label);
            continue;
        }
        for (which, at) in ends
            .iter()
            .filter(|(end, _)| end.edge == number)
            .map(|(end, at)| (end.is_start, at))
        {
            let point = if which {
                route.points.first_mut()
            } else {
                route.points.last_mut()
            };
            if let Some(point) = point {
                *point = *at;
            }
        }
    }
}

/// One end of an edge at one side of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    node: usize,
    is_right: bool,
    /// Where the edge goes, from top to bottom.
    height: i32,
    edge: usize,
    is_start: bool,
}

fn ends_at_sides(shape: &Shape, placed: &Placed) -> Vec<(End, At)> {
    let mut ends: Vec<End> = Vec::new();
    for (edge, ((from, to), route)) in shape.edges.iter().zip(&placed.edges).enumerate() {
        let (Some(start), Some(end)) = (placed.nodes.get(*from), placed.nodes.get(*to)) else {
            continue;
        };
        if from == to {
            continue;
        }
        let leads_right = start.0 < end.0;
        let one = |node: usize, is_start: bool| End {
            node,
            is_right: leads_right == is_start,
            height: route.label.1,
            edge,
            is_start,
        };
        ends.extend([one(*from, true), one(*to, false)]);
    }
    ends.sort_unstable();
    let sides = ends.chunk_by(|a, b| (a.node, a.is_right) == (b.node, b.is_right));
    let spread = sides.flat_map(|side| {
        let parts = step(side.len() + 1);
        side.iter()
            .enumerate()
            .map(move |(number, end)| (*end, HEIGHT * step(number + 1) / parts))
    });
    let at = |(end, below): (End, i32)| {
        let (x, y) = placed.nodes.get(end.node).copied().unwrap_or_default();
        let side = if end.is_right { WIDTH / 2 } else { -WIDTH / 2 };
        (end, (x + side, y - HEIGHT / 2 + below))
    };
    spread.map(at).collect()
}

fn hanging((x, y): At, label: At) -> Vec<At> {
    let from = if label.1 > y {
        y + HEIGHT / 2
    } else {
        y - HEIGHT / 2
    };
    let near = WIDTH / 4;
    let far = near + 16;
    vec![
        (x + near, from),
        (x + far, label.1),
        (x - far, label.1),
        (x - near, from),
    ]
}

fn step(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Moves all of it so that it begins at the margin, and measures it.
fn within(mut nodes: Vec<At>, mut edges: Vec<Route>) -> Placed {
    let corners = |(x, y): At, width: i32, height: i32| {
        [
            (x - width / 2, y - height / 2),
            (x + width / 2, y + height / 2),
        ]
    };
    let mut all: Vec<At> = Vec::new();
    all.extend(nodes.iter().flat_map(|at| corners(*at, WIDTH, HEIGHT)));
    for route in &edges {
        all.extend(&route.points);
        all.extend(corners(route.label, LABEL_WIDTH, LABEL_HEIGHT));
    }
    let least = |of: fn(&At) -> i32| all.iter().map(of).min().unwrap_or(0);
    let most = |of: fn(&At) -> i32| all.iter().map(of).max().unwrap_or(0);
    let (left, top) = (least(|at| at.0) - MARGIN, least(|at| at.1) - MARGIN);
    let (right, bottom) = (most(|at| at.0) + MARGIN, most(|at| at.1) + MARGIN);
    let points = edges
        .iter_mut()
        .flat_map(|route| route.points.iter_mut().chain([&mut route.label]));
    for at in nodes.iter_mut().chain(points) {
        *at = (at.0 - left, at.1 - top);
    }
    Placed {
        width: right - left,
        height: bottom - top,
        nodes,
        edges,
    }
}

/// Which edges would lead back: those that a walk along the edges, from the first node on, finds to
/// end where it came from. Turned round, the rest has no cycle.
fn against_the_flow(shape: &Shape) -> Vec<bool> {
    let mut turned = vec![false; shape.edges.len()];
    let mut leaving = vec![Vec::new(); shape.nodes];
    for (number, (from, to)) in shape.edges.iter().enumerate() {
        if from != to
            && let Some(edges) = leaving.get_mut(*from)
        {
            edges.push((number, *to));
        }
    }
    let mut is_seen = vec![false; shape.nodes];
    let mut is_on_way = vec![false; shape.nodes];
    for root in starts(shape) {
        if is_seen.get(root) == Some(&true) {
            continue;
        }
        // Of each node on the way, how many of its edges were followed.
        let mut way = vec![(root, 0)];
        set(&mut is_seen, root, true);
        set(&mut is_on_way, root, true);
        while let Some((node, followed)) = way.last_mut() {
            let next = leaving.get(*node).and_then(|edges| edges.get(*followed));
            *followed += 1;
            match next {
                None => {
                    set(&mut is_on_way, *node, false);
                    way.pop();
                }
                Some((number, to)) if is_on_way.get(*to) == Some(&true) => {
                    set(&mut turned, *number, true);
                }
                Some((_, to)) if is_seen.get(*to) == Some(&false) => {
                    set(&mut is_seen, *to, true);
                    set(&mut is_on_way, *to, true);
                    way.push((*to, 0));
                }
                Some(_) => {}
            }
        }
    }
    turned
}

/// Nodes that nothing leads to, then all: the first of a graph stand left.
fn starts(shape: &Shape) -> impl Iterator<Item = usize> {
    let mut is_led_to = vec![false; shape.nodes];
    for (from, to) in &shape.edges {
        if from != to {
            set(&mut is_led_to, *to, true);
        }
    }
    let first = is_led_to.into_iter().enumerate();
    let first: Vec<usize> = first
        .filter_map(|(node, led)| (!led).then_some(node))
        .collect();
    first.into_iter().chain(0..shape.nodes)
}

fn set(all: &mut [bool], at: usize, to: bool) {
    if let Some(one) = all.get_mut(at) {
        *one = to;
    }
}

/// Whether no two nodes, and no label and node, lie over each other, and every edge has a way.
fn is_sound(placed: &Placed) -> bool {
    let overlap = |a: At, b: At, width: i32, height: i32| {
        (a.0 - b.0).abs() < width && (a.1 - b.1).abs() < height
    };
    let nodes = placed.nodes.iter().enumerate();
    let apart = nodes.clone().all(|(number, at)| {
        let others = placed.nodes.iter().skip(number + 1);
        !others
            .into_iter()
            .any(|other| overlap(*at, *other, WIDTH, HEIGHT))
    });
    let (width, height) = (
        i32::midpoint(WIDTH, LABEL_WIDTH),
        i32::midpoint(HEIGHT, LABEL_HEIGHT),
    );
    apart
        && placed.edges.iter().all(|route| {
            let mut nodes = placed.nodes.iter();
            route.points.len() >= 2 && !nodes.any(|at| overlap(*at, route.label, width, height))
        })
}

/// A plain drawing that cannot go wrong: node by node in rows, straight edges, labels in the gaps.
fn in_rows(shape: &Shape) -> Placed {
    let columns = (1..=shape.nodes)
        .find(|n| n * n >= shape.nodes)
        .unwrap_or(1);
    let (across, down) = (WIDTH + 2 * LABEL_WIDTH, HEIGHT + 3 * LABEL_HEIGHT);
    let spot = |node: usize| (step(node % columns) * across, step(node / columns) * down);
    let nodes = (0..shape.nodes).map(spot).collect();
    let route = |(from, to): &(usize, usize)| {
        let (from, to) = (spot(*from), spot(*to));
        let label = (
            from.0 + across / 2,
            i32::midpoint(from.1, to.1) / down * down,
        );
        Route {
            points: vec![from, label, to],
            label,
        }
    };
    within(nodes, shape.edges.iter().map(route).collect())
}

fn name(number: usize) -> String {
    // As long as each other, so that they sort as numbers do.
    format!("{number:06}")
}

#[expect(clippy::cast_possible_truncation, reason = "it is looked at first")]
fn pixel(of: f64) -> Option<i32> {
    (of.is_finite() && of.abs() < 1e6).then(|| of.round() as i32)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    fn shape(nodes: usize, edges: &[(usize, usize)]) -> Shape {
        Shape {
            nodes,
            edges: edges.to_vec(),
        }
    }

    fn any_shape() -> impl Strategy<Value = Shape> {
        (1..60_usize).prop_flat_map(|nodes| {
            prop::collection::btree_set((0..nodes, 0..nodes), 0..nodes * 2).prop_map(move |edges| {
                Shape {
                    nodes,
                    edges: edges.into_iter().collect(),
                }
            })
        })
    }

    fn check(shape: &Shape) {
        let placed = place(shape);
        assert_eq!(placed.nodes.len(), shape.nodes);
        assert_eq!(placed.edges.len(), shape.edges.len());
        assert!(is_sound(&placed), "{shape:?}: {placed:?}");
        let points = placed.edges.iter().flat_map(|route| &route.points);
        for (x, y) in placed.nodes.iter().chain(points) {
            assert!((0..=placed.width).contains(x) && (0..=placed.height).contains(y));
        }
        assert_eq!(placed, place(shape), "another time it is another one");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn whatever_the_graph_nothing_overlaps_and_it_is_the_same_every_time(shape in any_shape()) {
            check(&shape);
            let by_dagre = with_dagre(&shape);
            prop_assert!(by_dagre.as_ref().is_some_and(is_sound), "not by dagre: {by_dagre:?}");
        }

        #[test]
        fn rows_of_nodes_never_overlap(shape in any_shape()) {
            prop_assert!(is_sound(&in_rows(&shape)));
        }

        #[test]
        fn without_what_leads_back_there_is_no_cycle(shape in any_shape()) {
            let turned = against_the_flow(&shape);
            let edges = shape.edges.iter().zip(&turned).filter(|((from, to), _)| from != to);
            let edges: Vec<_> = edges.map(|((a, b), turn)| if *turn { (*b, *a) } else { (*a, *b) }).collect();
            let mut left: Vec<usize> = (0..shape.nodes).collect();
            loop {
                let before = left.len();
                let stays = |node: &usize| edges.iter().any(|(a, b)| b == node && left.contains(a));
                left = left.iter().copied().filter(stays).collect();
                if left.len() == before { break; }
            }
            prop_assert!(left.is_empty(), "{:?}", left);
        }
    }

    #[test]
    fn odd_graphs_are_placed_by_the_layout_itself() {
        let ring: Vec<_> = (0..60).map(|node| (node, (node + 1) % 60)).collect();
        let star: Vec<_> = (1..60).flat_map(|node| [(0, node), (node, 0)]).collect();
        let all: Vec<_> = (0..8).flat_map(|a| (0..8).map(move |b| (a, b))).collect();
        for shape in [
            shape(0, &[]),
            shape(1, &[]),
            shape(1, &[(0, 0)]),
            shape(2, &[(0, 1), (1, 0), (0, 0), (1, 1)]),
            shape(60, &ring),
            shape(60, &star),
            shape(60, &[]),
            shape(8, &all),
        ] {
            let placed = with_dagre(&shape).expect("an answer");
            assert!(is_sound(&placed), "{shape:?}");
            check(&shape);
        }
    }

    #[test]
    fn the_caller_stands_left_of_the_agent() {
        let placed = place(&shape(3, &[(2, 0), (0, 1)]));
        let x = |node: usize| placed.nodes[node].0;
        assert!(x(2) < x(0) && x(0) < x(1), "{placed:?}");
    }

    #[test]
    fn a_shape_that_many_ask_for_at_once_is_placed_once() {
        let (layouts, two) = (Layouts::default(), shape(2, &[(0, 1)]));
        let (placings, gate) = (AtomicUsize::new(0), Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    gate.wait();
                    layouts.get_by(&two, |shape| {
                        placings.fetch_add(1, Ordering::Relaxed);
                        // So that all others come while it is being placed.
                        (0..50).for_each(|_| std::thread::yield_now());
                        place(shape)
                    })
                });
            }
        });
        assert_eq!(placings.into_inner(), 1);
    }

    #[test]
    fn a_shape_is_placed_once() {
        let layouts = Layouts::default();
        let two = shape(2, &[(0, 1)]);
        let placed = layouts.get(&two);
        assert!(Arc::ptr_eq(&placed, &layouts.get(&two)));
        for nodes in 3..100 {
            layouts.get(&shape(nodes.min(REMEMBERED + 10), &[]));
        }
        assert!(layouts.0.lock().unwrap().len() <= REMEMBERED);
    }
}
