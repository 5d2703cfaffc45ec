//! Which decoded pixels a loader keeps, and where: the decision, made before the first batch.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use crate::cache::{Folder, Sizes, Wanted};
use crate::codec::LIBJPEG_TURBO;
use crate::dataset::{Dataset, not_as_planned};
use crate::error::{Error, Result};
use crate::imaging::{ImagePlan, Pose};
use crate::memory;
use crate::pipeline::spec::CacheSpec;
use crate::pixels::Depth;
use crate::schema::Field;
use crate::transform::{DecodeOptions, Operation};

/// What "auto" lets an entry take of the disk's free space, and of the machine's memory.
const DISK_SHARE: f64 = 0.5;
const MEMORY_SHARE: f64 = 0.5;

/// What was decided for an image field.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Keeping {
    /// The field.
    pub field: String,
    /// How many operations of its list come before anything random, `Decode` included.
    pub prefix: usize,
    /// The entry's file, if there is one.
    pub path: Option<String>,
    /// Bytes that it takes when all rows are there.
    pub bytes: u64,
    /// Why there is none.
    pub reason: Option<String>,
    /// Whether somebody should hear of that, because the cache was meant to work.
    #[serde(skip)]
    pub unexpected: bool,
}

/// Decides for one field, and opens its entry.
pub(in crate::pipeline) fn keep(
    dataset: &Dataset,
    field: &Field,
    plan: &mut ImagePlan,
    spec: &CacheSpec,
) -> Result<Keeping> {
    let mut keeping = Keeping {
        field: field.name.clone(),
        ..Keeping::default()
    };
    let Some(options) = plan.decode_options() else {
        keeping.reason = Some("its pixels are stored raw already".into());
        return Ok(keeping);
    };
    // Without later steps, up to the last one; without any, `Decode` alone may stand there.
    let last = plan.steps.last().map_or(1, |(at, _)| at + 1);
    keeping.prefix = plan.steps.get(plan.prefix).map_or(last, |(at, _)| *at);
    if let Some(reason) = hindrance(plan, &options).filter(|_| !spec.fill) {
        keeping.reason = Some(reason);
        return Ok(keeping);
    }
    match open(dataset, field, plan, &options, spec, &mut keeping) {
        Err(error) if is_mistake(&error, spec) => return Err(error),
        Err(error) => {
            // Loading works without, only slower.
            keeping.unexpected = !matches!(error, Error::Option { .. });
            keeping.reason = Some(error.to_string());
        }
        Ok(()) => {}
    }
    Ok(keeping)
}

/// Whether an error is about what was asked for or about the dataset, and not about the state of the cache's folder.
fn is_mistake(error: &Error, spec: &CacheSpec) -> bool {
    let folder = Path::new(&spec.folder);
    match error {
        Error::Option { .. } | Error::State { .. } => false,
        Error::Io { path, .. } | Error::Corrupt { path, .. } => {
            let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
            let about_cache = path.starts_with(&folder) || path == Path::new(&spec.folder);
            !spec.auto && (!about_cache || (folder.exists() && !folder.is_dir()))
        }
        _ => !spec.auto,
    }
}

/// Why the pixels behind the prefix would not be those of doing everything at once.
fn hindrance(plan: &ImagePlan, options: &DecodeOptions) -> Option<String> {
    let (resizes, ends) = (plan.prefix_resizes, plan.prefix == plan.steps.len());
    if plan.format.depth == Depth::Sixteen && resizes && !ends {
        // Its weights are floating-point, and summed up in another order for another part.
        return Some("resizing 16-bit pixels rounds by the part that is asked for".into());
    }
    let later = plan.steps[plan.prefix..]
        .iter()
        .any(|(_, step)| step.resizes());
    (later && options.scaled && !resizes).then(|| {
        "its first resize is random, and decides how it is decoded; put Resize before it, or Decode(scaled=False) first"
            .into()
    })
}

fn open(
    dataset: &Dataset,
    field: &Field,
    plan: &mut ImagePlan,
    options: &DecodeOptions,
    spec: &CacheSpec,
    keeping: &mut Keeping,
) -> Result<()> {
    let folder = Folder::open(&spec.folder, spec.max_bytes)?;
    let operations: Vec<&Operation> = plan.steps[..plan.prefix]
        .iter()
        .map(|(_, step)| step)
        .collect();
    let what = json!([
        dataset.manifest().fingerprint,
        field.name,
        options,
        operations,
        plan.mask(),
        [env!("CARGO_PKG_VERSION"), LIBJPEG_TURBO],
    ]);
    let key = blake3::hash(what.to_string().as_bytes()).to_hex();
    let sources: Vec<_> = dataset
        .sources()
        .iter()
        .map(|source| source.path.display().to_string())
        .collect();
    let description = json!({
        "datasets": sources,
        "fingerprint": dataset.manifest().fingerprint,
        "field": field.name,
        "decode": options,
        "transforms": operations,
    });
    let wanted = Wanted {
        key: &key[..32],
        description: &description.to_string(),
        rows: dataset.rows(),
        pixel_bytes: plan.format.bytes() as u32,
    };
    if spec.auto && !folder.holds(wanted.key) {
        let sizes = sizes(dataset, field, plan, options)?;
        check_shares(&folder, wanted.bytes(&sizes))?;
    }
    let entry = folder.entry(&wanted, || sizes(dataset, field, plan, options))?;
    keeping.path = Some(entry.path().display().to_string());
    keeping.bytes = entry.bytes();
    plan.kept = Some(entry);
    Ok(())
}

/// (height, width) of each row behind the prefix.
fn sizes(
    dataset: &Dataset,
    field: &Field,
    plan: &ImagePlan,
    options: &DecodeOptions,
) -> Result<Sizes> {
    let known = dataset.manifest().ranges.image_sizes.get(&field.name);
    let uniform = known
        .and_then(|sizes| sizes.uniform())
        .filter(|_| !options.exif_orientation);
    let steps = plan.steps[..plan.prefix].iter();
    let same = steps.fold(
        uniform.map(|(width, height)| [height, width]),
        |size, (_, step)| step.output_size(size),
    );
    if let Some(size) = same {
        return Ok(Sizes::Same(size));
    }
    let index = dataset.field(&field.name)?;
    let mut each = memory::room(dataset.rows() as usize)?;
    for row in 0..dataset.rows() {
        let place = dataset.locate(row)?;
        let pose =
            Pose::of_row(&place, index, options).ok_or_else(|| not_as_planned(&field.name))?;
        let (width, height) = pose.size();
        // What can't be resized as asked is an error when it is loaded, and has no place here.
        let size = plan
            .start(width, height)
            .map_or((0, 0), |recipe| recipe.size());
        each.push([size.1, size.0]);
    }
    Ok(Sizes::Each(each))
}

fn check_shares(folder: &Folder, bytes: u64) -> Result<()> {
    let gib = |bytes: f64| format!("{:.1} GiB", bytes / f64::from(1 << 30));
    let free = free_disk(folder)? as f64;
    let memory = memory::total().map_or(f64::INFINITY, |bytes| bytes as f64);
    let bytes = bytes as f64;
    for (limit, share, what) in [
        (free, DISK_SHARE, "free disk space"),
        (memory, MEMORY_SHARE, "memory"),
    ] {
        if bytes > limit * share {
            let percent = share * 100.0;
            return Err(Error::option(format!(
                "its {} are more than {percent} % of the {} of {what}; name a folder to keep them all the same",
                gib(bytes),
                gib(limit)
            )));
        }
    }
    Ok(())
}

fn free_disk(folder: &Folder) -> Result<u64> {
    let found = rustix::fs::statvfs(folder.path())
        .map_err(|error| Error::io(folder.path())(error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
