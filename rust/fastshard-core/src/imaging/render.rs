//! Carrying a recipe out: from source pixels to the sample's place in the batch.

use crate::error::Result;
use crate::pixels::{PixelFormat, Rect, Scratch};
use crate::transform::{Effect, Finish, Recipe, Resampler, Source};

/// One thread's tools. Intermediate images go to and fro between two buffers.
#[derive(Debug, Default)]
pub(super) struct Renderer {
    resampler: Resampler,
    staged: [Scratch; 2],
    scratch: Scratch,
}

impl Renderer {
    /// Runs the steps and the finish. `out` is asked for memory once the sample's (height, width) is known.
    pub(super) fn run<'a>(
        &mut self,
        mut format: PixelFormat,
        finish: &Finish,
        recipe: &Recipe,
        source: Source<'_>,
        out: impl FnOnce([u32; 2]) -> Result<&'a mut [u8]>,
    ) -> Result<()> {
        let (width, height) = recipe.size();
        let out = out([height, width])?;
        let Self {
            resampler,
            staged: [even, odd],
            scratch,
        } = self;
        let steps = recipe.steps();
        let last = steps.len() - 1;
        let mut area = source.area;
        for (at, (stage, effects)) in steps.enumerate() {
            let (target, input) = if at % 2 == 0 {
                (&mut *even, &mut *odd)
            } else {
                (&mut *odd, &mut *even)
            };
            let input = match at {
                0 => source,
                _ => Source {
                    pixels: input.bytes(area.area() * format.bytes())?,
                    area,
                    format,
                    reduce: 1,
                },
            };
            area = Rect::of_size(stage.view.width, stage.view.height);
            let stays = !effects.contains(&Effect::Luma);
            if at == last && stays && finish.is_identity() {
                resampler.run(stage, input, out)?;
                Effect::run(effects, out, width as usize, format.channels, scratch)?;
                break;
            }
            let pixels = target.bytes(area.area() * format.bytes())?;
            resampler.run(stage, input, pixels)?;
            if !effects.is_empty() {
                let width = area.width as usize;
                format.channels = Effect::run(effects, pixels, width, format.channels, scratch)?;
            }
            if at == last {
                let pixels = &pixels[..area.area() * format.bytes()];
                finish.run(pixels, scratch, out)?;
                break;
            }
        }
        for erase in recipe.erased() {
            finish.erase(erase, out, width);
        }
        Ok(())
    }

    pub(super) fn shrink(&mut self, keep: usize) {
        for staged in &mut self.staged {
            staged.shrink(keep);
        }
        self.scratch.shrink(keep);
        self.resampler.shrink(keep);
    }
}
