//! Warps against obvious twins.

use super::super::warp::Sampling;
use super::super::{Affine, Canvas, Filter, Resampler};
use super::*;
use crate::pixels::PixelFormat;
use crate::random::mix;

const PADDINGS: [Padding; 4] = [
    Padding::Constant,
    Padding::Edge,
    Padding::Reflect,
    Padding::Symmetric,
];

fn sampling(interpolation: Interpolation, padding: Padding) -> Sampling {
    Sampling {
        interpolation,
        padding,
        fill: vec![7, 99, 200],
    }
}

fn noise(width: u32, height: u32, format: PixelFormat) -> Vec<u8> {
    let length = Rect::of_size(width, height).area() * format.bytes();
    (0..length).map(|at| mix(at as u64) as u8).collect()
}

fn format(channels: usize, depth: Depth) -> PixelFormat {
    PixelFormat { channels, depth }
}

/// The obvious twin: one pixel, one channel, in floating point. `value` gives what is stored.
fn twin(
    matrix: &Matrix,
    sampling: &Sampling,
    (width, height): (i64, i64),
    fill: f64,
    [x, y]: [u32; 2],
    value: impl Fn(i64, i64) -> f64,
) -> f64 {
    let [u, v] = matrix.map(f64::from(x) + 0.5, f64::from(y) + 0.5);
    let find = |x: i64, y: i64| {
        let x = outside(sampling.padding, x, width)?;
        Some(value(x, outside(sampling.padding, y, height)?))
    };
    if sampling.interpolation == Interpolation::Nearest {
        return find(u.floor() as i64, v.floor() as i64).unwrap_or(fill);
    }
    let (u, v) = (u - 0.5, v - 0.5);
    let (mut sum, mut mask) = (0.0, 0.0);
    for (x, y) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let (column, row) = (u.floor() as i64 + x, v.floor() as i64 + y);
        let weight = (1.0 - (u - column as f64).abs()) * (1.0 - (v - row as f64).abs());
        if let Some(found) = find(column, row) {
            sum += weight * found;
            mask += weight;
        }
    }
    mask * (sum - fill) + fill
}

/// Step by step, as one would on paper.
fn outside(padding: Padding, mut at: i64, length: i64) -> Option<i64> {
    while !(0..length).contains(&at) {
        at = match padding {
            Padding::Constant => return None,
            Padding::Edge => at.clamp(0, length - 1),
            Padding::Reflect if length == 1 => 0,
            Padding::Reflect if at < 0 => -at,
            Padding::Reflect => 2 * (length - 1) - at,
            Padding::Symmetric if at < 0 => -1 - at,
            Padding::Symmetric => 2 * length - 1 - at,
        };
    }
    Some(at)
}

/// Runs all stages, each on no more than it says it needs.
fn run(canvas: &Canvas, pixels: &[u8], size: (u32, u32), format: PixelFormat) -> Vec<u8> {
    let mut pixels = pixels.to_vec();
    let (mut width, mut height) = size;
    for stage in canvas.stages() {
        let whole = Rect::of_size(width, height);
        let area = stage.needed().unwrap_or(whole);
        let mut part = Vec::new();
        for y in area.y..area.y + area.height {
            let from = (y * width + area.x) as usize * format.bytes();
            part.extend_from_slice(&pixels[from..][..area.width as usize * format.bytes()]);
        }
        (width, height) = (stage.view.width, stage.view.height);
        let mut out = vec![9; Rect::of_size(width, height).area() * format.bytes()];
        let source = Source {
            pixels: &part,
            area,
            format,
            reduce: 1,
        };
        Resampler::default().run(stage, source, &mut out).unwrap();
        pixels = out;
    }
    pixels
}

fn matrices(size: (u32, u32)) -> Vec<Matrix> {
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let mut all: Vec<_> = [
        (0.0, [0.0, 0.0], 1.0, [0.0, 0.0]),
        (31.0, [3.0, -2.0], 1.0, [0.0, 0.0]),
        (90.0, [0.0, 0.0], 1.0, [0.0, 0.0]),
        (180.0, [0.0, 0.0], 1.0, [0.0, 0.0]),
        (-7.0, [0.0, 0.0], 0.2, [10.0, 20.0]),
        (200.0, [1.0, 1.0], 5.0, [-30.0, 0.0]),
        (12.0, [0.0, 0.0], 0.01, [0.0, 0.0]),
        (45.0, [0.0, 0.0], 1.0, [89.9, -89.0]),
        (10.0, [1e4, -1e4], 1.0, [0.0, 0.0]),
    ]
    .into_iter()
    .map(|(angle, translate, scale, shear)| {
        let parts = Affine {
            angle,
            translate,
            scale,
            shear,
            center: None,
        };
        Matrix::affine(&parts, size)
    })
    .collect();
    all.push(Matrix([
        [0.9, 0.1, 1.0],
        [0.2, 1.1, -2.0],
        [0.002, -0.003, 1.0],
    ]));
    // Its horizon runs through the image.
    let slope = 2.0 / (width + height);
    all.push(Matrix([
        [1.0, 0.0, 0.0],
        [0.0, 1.0, 0.0],
        [slope, slope, -1.03],
    ]));
    all
}

#[test]
fn warps_are_what_they_say() {
    for size in [(1, 1), (2, 3), (1, 40), (37, 29)] {
        for (matrix, at) in matrices(size).iter().zip(0..) {
            for padding in PADDINGS {
                for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
                    for format in [
                        format(1, Depth::Eight),
                        format(3, Depth::Eight),
                        format(1, Depth::Sixteen),
                        format(3, Depth::Sixteen),
                    ] {
                        let sampling = sampling(interpolation, padding);
                        let context = format!("{at}: {sampling:?} {format:?} {size:?}");
                        compare(matrix, &sampling, size, format, &context);
                    }
                }
            }
        }
    }
}

fn compare(
    matrix: &Matrix,
    sampling: &Sampling,
    size: (u32, u32),
    format: PixelFormat,
    context: &str,
) {
    let pixels = noise(size.0, size.1, format);
    // A crop, so that the parts that are drawn and needed are not the whole.
    let (left, top, right, bottom) = (size.0 / 4, size.1 / 3, size.0 / 3, 0);
    let (width, height) = (size.0 - left - right, size.1 - top - bottom);
    let mut canvas = Canvas::new(size.0, size.1);
    canvas.warp(*matrix, size, sampling);
    canvas.crop(left.into(), top.into(), width, height);
    let found = run(&canvas, &pixels, size, format);
    let wide = format.depth == Depth::Sixteen;
    let read = |bytes: &[u8], at: usize| {
        if wide {
            f64::from(u16::from_ne_bytes([bytes[2 * at], bytes[2 * at + 1]]))
        } else {
            f64::from(bytes[at])
        }
    };
    let mut off = 0;
    for y in 0..height {
        for x in 0..width {
            for channel in 0..format.channels {
                let place = |x: u64, y: u64, width: u32| {
                    (y * u64::from(width) + x) as usize * format.channels + channel
                };
                let value = |x: i64, y: i64| read(&pixels, place(x as u64, y as u64, size.0));
                let expected = twin(
                    matrix,
                    sampling,
                    (size.0.into(), size.1.into()),
                    sampling.fill[channel].into(),
                    [x + left, y + top],
                    value,
                );
                let found = read(&found, place(x.into(), y.into(), width));
                // A weight is off by 2^-12 at most, along either axis.
                let most = if wide { 40.0 } else { 0.7 };
                off += usize::from((found - expected).abs() > most);
            }
        }
    }
    // Nearest pixels may differ at ties, and both where coordinates are so large that doubles have no fraction left.
    let all = (width * height) as usize * format.channels;
    assert!(off * 50 <= all, "{off} of {all} differ, {context}");
}

#[test]
fn absurd_warps_show_the_border() {
    let size = (9, 7);
    let pixels = noise(size.0, size.1, format(3, Depth::Eight));
    for (scale, far) in [
        (1e-12, 0.0),
        (1e-300, 0.0),
        (1e300, 1e300),
        (1.0, 1e18),
        (f64::NAN, 0.0),
    ] {
        for padding in PADDINGS {
            for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
                let parts = Affine {
                    angle: 20.0,
                    scale,
                    translate: [far; 2],
                    ..Affine::default()
                };
                let mut canvas = Canvas::new(size.0, size.1);
                let sampling = sampling(interpolation, padding);
                canvas.warp(Matrix::affine(&parts, size), size, &sampling);
                canvas.warp(Matrix::affine(&parts, size), size, &sampling);
                let out = run(&canvas, &pixels, size, format(3, Depth::Eight));
                // Moved as far as it is enlarged, a part of it is still seen.
                if padding == Padding::Constant && far / scale > 1e17 {
                    assert_eq!(out[..3], [7, 99, 200]);
                }
            }
        }
    }
}

#[test]
fn chains_are_one_stage() {
    let size = (40, 30);
    let smooth = sampling(Interpolation::Bilinear, Padding::Constant);
    let turn = |canvas: &Canvas, degrees: f64| {
        Matrix::rotation(degrees, None, canvas.size(), canvas.size())
    };
    let mut canvas = Canvas::new(size.0, size.1);
    canvas.crop(1, 2, 36, 25);
    canvas.flip_horizontally();
    canvas.warp(turn(&canvas, 10.0), (36, 25), &smooth);
    canvas.flip_vertically();
    canvas.crop(2, 2, 30, 20);
    canvas.warp(turn(&canvas, 20.0), (30, 20), &smooth);
    canvas.flip_horizontally();
    canvas.pad([1, 1, 1, 1], &[5]);
    assert_eq!(canvas.stages().len(), 1);
    canvas.warp(turn(&canvas, 20.0), (32, 22), &smooth);
    assert_eq!(
        canvas.stages().len(),
        2,
        "a border can't be part of a matrix"
    );

    let mut canvas = Canvas::new(size.0, size.1);
    canvas.warp(turn(&canvas, 10.0), size, &smooth);
    let rough = sampling(Interpolation::Nearest, Padding::Constant);
    canvas.warp(turn(&canvas, 10.0), size, &rough);
    assert_eq!(canvas.stages().len(), 2, "sampled differently");

    let mut canvas = Canvas::new(size.0, size.1);
    let filter = Filter {
        interpolation: Interpolation::Bilinear,
        antialias: true,
    };
    canvas.warp(turn(&canvas, 10.0), size, &smooth);
    canvas.resize(20, 20, filter);
    canvas.warp(turn(&canvas, 10.0), (20, 20), &smooth);
    assert_eq!(canvas.stages().len(), 3, "resizing averages");
}

type Step<'a> = &'a dyn Fn(&mut Canvas, &Sampling);

/// Quarter turns, flips, whole shifts and crops with the nearest pixel lose nothing, so one resampling must give what
/// one after the other gives, including what leaves the frame on the way.
#[test]
fn chains_equal_their_steps() {
    let size = (31, 31);
    let format = format(3, Depth::Eight);
    let pixels = noise(size.0, size.1, format);
    let shift = |x: f64, y: f64| {
        move |canvas: &mut Canvas, sampling: &Sampling| {
            canvas.warp(Matrix::translation(x, y), canvas.size(), sampling);
        }
    };
    let turn = |canvas: &mut Canvas, sampling: &Sampling| {
        let size = canvas.size();
        let output = (size.1, size.0);
        canvas.warp(Matrix::rotation(90.0, None, size, output), output, sampling);
    };
    let steps: [Step<'_>; 10] = [
        &|canvas, _| canvas.crop(1, 2, 28, 27),
        &|canvas, _| canvas.flip_vertically(),
        &turn,
        &shift(4.0, -3.0),
        &|canvas, _| canvas.flip_horizontally(),
        &shift(-4.0, 5.0),
        &|canvas, _| canvas.crop(3, 1, 20, 24),
        &shift(-2.0, 0.0),
        &turn,
        &|canvas, _| canvas.crop(1, 1, 15, 16),
    ];
    for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
        let sampling = sampling(interpolation, Padding::Constant);
        let mut chain = Canvas::new(size.0, size.1);
        let (mut expected, mut now) = (pixels.clone(), size);
        for step in steps {
            step(&mut chain, &sampling);
            let mut alone = Canvas::new(now.0, now.1);
            step(&mut alone, &sampling);
            expected = run(&alone, &expected, now, format);
            now = alone.size();
        }
        assert_eq!(chain.stages().len(), 1);
        assert_eq!(chain.size(), now);
        assert!(run(&chain, &pixels, size, format) == expected);
    }
}

#[test]
fn spans_are_exact() {
    for start in -9..9 {
        for step in -4..5 {
            for (low, high) in [(-3, 5), (0, 1), (2, 2)] {
                let inside = |at: &i64| (low..high).contains(&(start + at * step));
                let expected: Vec<_> = (0..7).filter(inside).collect();
                let found: Vec<_> = span(start, step, low, high, 7)
                    .map(|at| at as i64)
                    .collect();
                assert_eq!(found, expected, "{start} {step} {low}..{high}");
            }
        }
    }
}

#[test]
fn crops_after_warps_need_less() {
    let sampling = sampling(Interpolation::Bilinear, Padding::Constant);
    let mut canvas = Canvas::new(1000, 1000);
    canvas.warp(
        Matrix::rotation(5.0, None, (1000, 1000), (1000, 1000)),
        (1000, 1000),
        &sampling,
    );
    canvas.crop(450, 450, 100, 100);
    let needed = canvas.stages()[0].needed().unwrap();
    assert!(needed.width < 120 && needed.height < 120, "{needed:?}");
    canvas.crop(0, 0, 1, 1);
    assert_eq!(canvas.stages().len(), 1);
}

#[test]
fn vector_code_blends_as_plain_code() {
    const SIDE: i64 = 23;
    let bytes = noise(SIDE as u32, SIDE as u32, format(3, Depth::Eight));
    let pixels: &[[u8; 3]] = bytemuck::cast_slice(&bytes);
    let mut seed = 1u64;
    let mut draw = |most: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 20) as i64 % most
    };
    let mut vectors = 0;
    for _ in 0..500 {
        // From one safe place to another, both anywhere; the last pixel of the image is among the neighbours of some.
        let ends = [0; 2].map(|_| [0; 2].map(|_| draw((SIDE - 1) * ONE)));
        let step = [0, 1].map(|axis| (ends[1][axis] - ends[0][axis]) / 40);
        let mut out = [[0; 3]; 41];
        let done = u8::blend_run(pixels, SIDE as usize, ends[0], step, &mut out);
        vectors += done;
        for (at, found) in out[..done].iter().enumerate() {
            let place = [0, 1].map(|axis| ends[0][axis] + step[axis] * at as i64);
            let [x, y] = place.map(|place| (place >> BITS) as usize);
            let near = [(0, 0), (1, 0), (0, 1), (1, 1)]
                .map(|(right, below)| pixels[(y + below) * SIDE as usize + x + right]);
            for channel in 0..3 {
                let values = near.map(|pixel| pixel[channel]);
                assert_eq!(
                    found[channel],
                    u8::blend(values, weights(place)),
                    "{place:?}"
                );
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if crate::cpu::has_avx2() {
        assert!(vectors > 19_000, "vector code made only {vectors} pixels");
    }
}
