//! Effects that map values one by one, as tables of 256 entries a channel.
//!
//! # Idea
//!
//! An effect is composed with the tables so far: entry `v` of a channel becomes `effect(table[v])`. Effects that look
//! at the whole image, such as equalise, only need its histogram. The histogram of the image after the tables follows
//! from the one before: the count of `v` is added to that of `table[v]`. So pixels are counted once and written once,
//! however many such effects follow each other.
//!
//! Only the contrast of colour images needs the pixels themselves: luma joins channels, and three histograms don't tell
//! which values belong to one pixel. There the tables are applied first.
//!
//! # Why it is exact
//!
//! Every effect rounds to 8 bits, so a table of 256 entries holds all that an effect can do to a channel.
//!
//! # Cost
//!
//! 256 steps an effect and channel; one pass over the pixels to apply the tables, and at most one to count. Each
//! contrast of a colour image adds a pass to apply and one to sum up.

use super::change::Effect;
use super::color::{fused, mean_luma};

type Map = [u8; 256];
type Counts = [u32; 256];

/// The composed tables, one a channel, and the histograms that go with them.
#[derive(Debug)]
pub(super) struct Tables {
    maps: Vec<Map>,
    pending: bool,
    /// Histogram of each channel after `maps`; `None` until an effect needs it.
    counts: Option<Vec<Counts>>,
}

fn identity() -> Map {
    std::array::from_fn(|value| value as u8)
}

impl Tables {
    pub(super) fn new(channels: usize) -> Self {
        Self {
            maps: vec![identity(); channels],
            pending: false,
            counts: None,
        }
    }

    /// Composes an effect into the tables; false if it is no map of single values.
    pub(super) fn take(&mut self, effect: &Effect, pixels: &mut [u8]) -> bool {
        match *effect {
            Effect::Brightness(factor) => self.every(|value| value * factor as f32),
            Effect::Contrast(factor) => {
                let mean = self.mean(pixels);
                self.every(|value| fused(mean, (1.0 - factor) as f32, value * factor as f32));
            }
            Effect::Posterize(bits) => {
                let mask = !(0xFF_u32 >> bits) as u8;
                self.then(|_, value| value & mask);
            }
            Effect::Solarize(threshold) => {
                let over = |value: u8| f32::from(value) >= threshold as f32;
                self.then(|_, value| if over(value) { !value } else { value });
            }
            Effect::Invert => self.then(|_, value| !value),
            Effect::Autocontrast => self.by_counts(pixels, stretch),
            Effect::Equalize => self.by_counts(pixels, equalize),
            _ => return false,
        }
        true
    }

    /// Applies the tables to the pixels, and begins anew with identities.
    pub(super) fn apply(&mut self, pixels: &mut [u8]) {
        if !std::mem::take(&mut self.pending) {
            return;
        }
        match &self.maps[..] {
            [red, green, blue] => {
                for pixel in pixels.as_chunks_mut::<3>().0 {
                    let [r, g, b] = pixel.map(usize::from);
                    *pixel = [red[r], green[g], blue[b]];
                }
            }
            maps => {
                for value in pixels {
                    *value = maps[0][usize::from(*value)];
                }
            }
        }
        self.maps.fill(identity());
    }

    fn every(&mut self, map: impl Fn(f32) -> f32) {
        // The cast truncates and stays within 0 and 255, as torchvision's clamp and conversion do.
        self.then(|_, value| map(f32::from(value)) as u8);
    }

    fn then(&mut self, next: impl Fn(usize, u8) -> u8) {
        self.pending = true;
        for (channel, map) in self.maps.iter_mut().enumerate() {
            *map = map.map(|value| next(channel, value));
        }
        for (channel, counts) in self.counts.iter_mut().flatten().enumerate() {
            let before = std::mem::replace(counts, [0; 256]);
            for (value, count) in (0..=u8::MAX).zip(before) {
                counts[usize::from(next(channel, value))] += count;
            }
        }
    }

    fn by_counts(&mut self, pixels: &[u8], map_of: impl Fn(&Counts) -> Map) {
        let maps: Vec<_> = self.counts(pixels).iter().map(map_of).collect();
        self.then(|channel, value| maps[channel][usize::from(value)]);
    }

    fn counts(&mut self, pixels: &[u8]) -> &[Counts] {
        let maps = &self.maps;
        self.counts.get_or_insert_with(|| {
            let stored = count(pixels, maps.len());
            let mut counts = vec![[0; 256]; maps.len()];
            for ((counts, map), stored) in counts.iter_mut().zip(maps).zip(&stored) {
                for (&value, count) in map.iter().zip(stored) {
                    counts[usize::from(value)] += count;
                }
            }
            counts
        })
    }

    /// Mean luma of the image after the effects so far. The sum is exact, and torchvision's in single precision is as
    /// good as exact.
    fn mean(&mut self, pixels: &mut [u8]) -> f32 {
        if self.maps.len() == 3 {
            self.apply(pixels);
            return mean_luma(pixels);
        }
        let counts = self.counts(pixels)[0];
        let sum: u64 = (0..)
            .zip(counts)
            .map(|(value, count)| value * u64::from(count))
            .sum();
        (sum as f64 / pixels.len() as f64) as f32
    }
}

fn count(pixels: &[u8], channels: usize) -> Vec<Counts> {
    let mut counts = vec![[0; 256]; channels];
    if let [red, green, blue] = &mut counts[..] {
        for pixel in pixels.as_chunks::<3>().0 {
            let [r, g, b] = pixel.map(usize::from);
            red[r] += 1;
            green[g] += 1;
            blue[b] += 1;
        }
    } else {
        for &value in pixels {
            counts[0][usize::from(value)] += 1;
        }
    }
    counts
}

/// Autocontrast: the smallest value becomes 0, the largest 255.
fn stretch(counts: &Counts) -> Map {
    let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    if first == last {
        return identity();
    }
    let scale = (last - first) as f32 * (1.0 / 255.0_f64) as f32;
    std::array::from_fn(|value| ((value as f32 - first as f32) / scale) as u8)
}

/// Equalise, by PIL's integer scheme, which torchvision follows.
fn equalize(counts: &Counts) -> Map {
    let total: u32 = counts.iter().sum();
    let last = counts.iter().rfind(|&&count| count > 0);
    let step = (total - last.copied().unwrap_or(0)) / 255;
    if step == 0 {
        return identity();
    }
    let mut below = step / 2;
    counts.map(|count| {
        let value = (below / step).min(255) as u8;
        below += count;
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Scratch;
    use crate::random::mix;

    /// Composed tables against the obvious twin: one effect after the other on the pixels.
    #[test]
    fn composing_changes_nothing() {
        let effects = [
            Effect::Brightness(1.3),
            Effect::Autocontrast,
            Effect::Solarize(100.0),
            Effect::Equalize,
            Effect::Contrast(0.6),
            Effect::Invert,
            Effect::Equalize,
            Effect::Posterize(5),
            Effect::Contrast(1.7),
        ];
        for channels in [1, 3] {
            let image: Vec<u8> = (0..41 * 23 * channels)
                .map(|at| (at / 40 + mix(at as u64) as usize % 90) as u8)
                .collect();
            let (mut together, mut alone) = (image.clone(), image.clone());
            let scratch = &mut Scratch::default();
            Effect::run(&effects, &mut together, 41, channels, scratch).unwrap();
            for effect in effects.chunks(1) {
                Effect::run(effect, &mut alone, 41, channels, scratch).unwrap();
            }
            assert_eq!(together, alone, "{channels} channels");
            assert_ne!(together, image);
        }
    }

    #[test]
    fn posterize_keeps_upper_bits() {
        for (bits, expected) in [(0, 0), (1, 0x80), (4, 0xB0), (8, 0xB7)] {
            let mut pixel = [0xB7];
            Effect::run(
                &[Effect::Posterize(bits)],
                &mut pixel,
                1,
                1,
                &mut Scratch::default(),
            )
            .unwrap();
            assert_eq!(pixel[0], expected);
        }
    }
}
