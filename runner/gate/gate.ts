import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { kernelContent } from '#kernel/kernel-content.ts';
import type { CompilerWarning } from '#kernel/build/extra-warnings.ts';
import type { KernelContext, KernelRequest } from '#kernel/prepare-kernel.ts';
import { guestNeeds, type Profile } from '#kernel/profile.ts';
import { asOneChange, compareVersions } from '#kernel/series/compare-versions.ts';
import type { Patch, Series } from '#kernel/series/series.ts';
import type { SourceTree } from '#kernel/source/source-tree.ts';
import type { Config } from '#runner/config/config.ts';
import type { Emit } from '#runner/lib/events.ts';
import { knownOf, type KnownFailure } from '#runner/verdict/known-failures.ts';
import type { RunParts } from '#runner/run/parts.ts';
import type { Prepared } from '#runner/run/prepare.ts';
import { refuseEmptySelection } from '#runner/run/suites.ts';
import type { GateResult, GateStep } from './gate-schema.ts';
import { checkPatches, filesToCompare, rememberedWarnings } from './check-patches.ts';
import { checkpatch } from './checkpatch.ts';
import { gateResult } from './gate-result.ts';
import { hygiene } from './hygiene.ts';
import { judge } from './judge.ts';
import { Observations } from './observations.ts';
import { nextStep, type Step } from './plan.ts';
import { runStep, selectionOf } from './run-step.ts';
import type { Sample, Visit } from './sample.ts';
import { SampleCache, suitesContent } from './sample-cache.ts';
import { buildSeries, type PatchBuild } from './series-kernels.ts';
import { PROBE, smokeTests } from './smoke.ts';
import { stopsOf, type Stop } from './stops.ts';
import { transientPatches } from './transient.ts';

export interface GateRequest {
  readonly config: Config;
  readonly profile: Profile;
  readonly parts: RunParts;
  readonly tools: GateTools;
  readonly projectDir: string;
  readonly series: Series;
  /** What to say about the series itself: duplicates, order, trailers. */
  readonly notes: readonly string[];
  /** An earlier version, which takes the place of the base: the whole of it against the whole of `series`. */
  readonly older: OlderVersion | undefined;
  /** Commit of the tree to start from. */
  readonly ref: string | undefined;
  /** What the patches are put on, for people. */
  readonly base: string;
  readonly useCache: boolean;
  readonly known: readonly KnownFailure[];
  /** Monotonic time at which no new work is begun, milliseconds; `undefined`: never. */
  readonly deadline: number | undefined;
}

export interface OlderVersion {
  readonly series: Series;
  /** What the user called it by. */
  readonly spec: string;
  readonly ref: string | undefined;
}

/** What the gate wants of kernels beside their images. */
export interface GateTools {
  /** The compiler's words with W=1 about these files, right after the kernel was built. */
  kernelWarnings(
    request: KernelRequest,
    files: readonly string[],
    context: KernelContext,
  ): Promise<readonly CompilerWarning[]>;
  /** Where the unpatched source lies. */
  pristineSource(request: KernelRequest, context: KernelContext): Promise<string>;
}

export interface GateContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

export interface GateOutcome {
  readonly gate: GateResult;
  readonly builds: readonly PatchBuild[];
  readonly stops: readonly Stop[];
  readonly visits: readonly Visit[];
  readonly prepared: Omit<Prepared, 'kernel'>;
  /** Patches whose code a later one takes back. */
  readonly transient: readonly number[];
  /** Tests that are listed as failing on this kernel. */
  readonly known: ReadonlySet<string>;
}

/** From a series to a verdict on each of its patches. @throws Failure where there is nothing to judge. */
export async function gate(request: GateRequest, context: GateContext): Promise<GateOutcome> {
  const { config, profile, parts, series } = request;
  const late = (): boolean => request.deadline !== undefined && performance.now() >= request.deadline;
  await refuseEmptySelection(request.projectDir, config.selection, context.signal);
  const rootfs = await parts.buildRootfs({ ...context, log: join(config.out, 'image.log') });
  const bundle = await parts.bundleDaemon(join(config.out, 'daemon'));
  const patches = patchesOf(request);
  // Found once: a tree that changes meanwhile must not change between two patches.
  const sources = new Map<string, SourceTree>();
  const warnings = new Map<number, readonly CompilerWarning[]>();
  const builds = await buildSeries({
    ...{
      kernelAt: (index: number) => kernelAt(index, request),
      nameOf: (index: number) => nameOf(index, request),
    },
    ...{ patches, parts, out: config.out, late, sources },
    ...context,
    inspect: async (index, kernel, wanted, out) => {
      const files = filesToCompare(patches, index);
      const compile = () => request.tools.kernelWarnings(wanted, files, { ...context, out, sources });
      warnings.set(index, await rememberedWarnings(kernel, files, compile));
    },
  });
  const source = await request.tools.pristineSource(
    { ...kernelAt(0, request), role: 'base' },
    { ...context, out: config.out, sources },
  );
  const checks = await checkPatches(patches, builds, warnings, async (patch) =>
    request.older === undefined
      ? [...hygiene(patch), ...(await checkpatch(patch, source, context.signal))]
      : [],
  );
  const stops = stopsOf(builds, await contentsOf(builds));
  const bzImage = stops[0]?.kernel.bzImage;
  const { accelerator } = await parts.probeAccelerator(config.accelerator, {
    signal: context.signal,
    bzImage,
  });
  const prepared = { rootfs, bundle, accelerator, needs: guestNeeds(profile) };
  const transient = transientPatches(patches);
  const release = stops[0]?.kernel.release ?? '';
  const listed = knownOf(request.known, { profile: profile.name, release });
  const known = new Set(listed.map(({ id }) => id));
  const found = await visitAll(request, { stops, prepared, transient, known, late }, context);
  const seen = new Observations(found.visits, probeOf(request));
  const result = gateResult({
    series: { name: series.name, title: series.title, count: patches.length },
    against: againstOf(request),
    base: request.base,
    ref: request.ref ?? null,
    patches,
    builds,
    checks,
    stops,
    seen,
    verdicts: judge({ stops: stops.length, seen, known }),
    steps: found.steps,
    outOfTime: found.outOfTime,
    notes: request.notes,
  });
  return { gate: result, builds, stops, visits: found.visits, prepared, transient, known };
}

/** What is told apart: the patches one by one, or a whole version from the whole of an earlier one. */
function patchesOf({ series, older }: GateRequest): readonly Patch[] {
  return older === undefined ? series.patches : [asOneChange(older.series, series)];
}

/** The kernel after so many of these; 0 is what they are compared with. */
function kernelAt(index: number, request: GateRequest): KernelRequest {
  const { config, profile, series, older, ref } = request;
  const same = {
    ...{ profile, series: config.series ?? undefined, loaded: series, tree: config.tree ?? undefined, ref },
    ...{ fragments: config.fragments, keep: config.keep },
  };
  if (older === undefined) return { ...same, patches: index, role: index === 0 ? 'base' : 'patched' };
  return index === 0
    ? { ...same, series: older.spec, loaded: older.series, ref: older.ref, role: 'patched' }
    : { ...same, role: 'patched' };
}

function nameOf(index: number, { series, older }: GateRequest): string {
  if (older !== undefined) return index === 0 ? older.series.name : series.name;
  return index === 0 ? 'the base' : `patch ${index}/${series.patches.length}`;
}

function againstOf({ series, older }: GateRequest): GateResult['against'] {
  if (older === undefined) return null;
  const { same, changed, added, dropped } = compareVersions(older.series, series);
  return {
    ...{ name: older.series.name, spec: older.spec, ref: older.ref ?? null },
    ...{ count: older.series.patches.length, newCount: series.patches.length },
    ...{ same: [...same], changed: [...changed], added: [...added], dropped: [...dropped] },
  };
}

async function contentsOf(builds: readonly PatchBuild[]): Promise<ReadonlyMap<number, string>> {
  const contents = new Map<number, string>();
  for (const build of builds) {
    if (build.state === 'built') contents.set(build.index, await kernelContent(build.kernel));
  }
  return contents;
}

/** Without its series the profile's kernel has no passthrough, and a series may be what brings it. */
function probeOf({ profile }: GateRequest): string | undefined {
  return profile.series === null ? undefined : PROBE;
}

interface Tour {
  readonly stops: readonly Stop[];
  readonly prepared: Omit<Prepared, 'kernel'>;
  readonly transient: readonly number[];
  readonly known: ReadonlySet<string>;
  readonly late: () => boolean;
}

/** Asks the plan for the next kernel until it knows enough. */
async function visitAll(request: GateRequest, tour: Tour, context: GateContext) {
  const { stops } = tour;
  const visits: Visit[] = [];
  const steps: GateStep[] = [];
  const transient = tour.transient
    .map((patch) => stops.findIndex((stop) => stop.patches.includes(patch)))
    .filter((at) => at > 0);
  const asked = new Map<string, number>();
  const probe = probeOf(request);
  for (;;) {
    const seen = new Observations(visits, probe);
    const step = nextStep({
      ...{ stops: stops.length, transient, smoke: smokeTests(seen), seen, probe, known: tour.known },
      probeFirst: request.older === undefined,
    });
    if (step === undefined) return { visits, steps, outOfTime: false };
    if (tour.late()) return { visits, steps, outOfTime: true };
    const key = JSON.stringify([step.stop, step.wanted, step.times]);
    const nth = asked.get(key) ?? 0;
    asked.set(key, nth + 1);
    const startedAt = performance.now();
    const { samples, cached } = await visit(request, tour, step, {
      ...context,
      nth,
      number: steps.length + 1,
    });
    visits.push({ stop: step.stop, wanted: step.wanted, samples });
    const { times, why, wanted } = step;
    steps.push({
      patch: stops[step.stop]?.patches[0] ?? 0,
      ...{ wanted: wanted === 'all' ? wanted : [...wanted], times, why, cached },
      durationMs: Math.round(performance.now() - startedAt),
    });
  }
}

async function visit(
  request: GateRequest,
  { stops, prepared }: Tour,
  { stop, wanted, times, why, once = false }: Step,
  context: GateContext & { readonly nth: number; readonly number: number },
): Promise<{ readonly samples: readonly Sample[]; readonly cached: boolean }> {
  const { config, profile, projectDir, parts } = request;
  const { kernel, content, patches } = stops[stop] ?? failStop(stop);
  const files = wanted === 'all' ? config.selection.files : selectionOf(wanted).files;
  const cache = new SampleCache(request.useCache);
  const circumstances = {
    kernel: content,
    rootfs: prepared.rootfs.key,
    daemon: prepared.bundle.sha256,
    accelerator: prepared.accelerator,
    append: config.append,
    profile: profile.name,
    suites: `${await suitesContent(projectDir, files)} ${wanted === 'all' ? JSON.stringify(config.selection) : ''}`,
    ...{ wanted, times, nth: context.nth },
  };
  const name = nameOf(patches[0] ?? 0, request);
  const what =
    wanted === 'all'
      ? 'all tests'
      : wanted.length === 0
        ? 'boot'
        : `${wanted.length} ${wanted.length === 1 ? 'test' : 'tests'}`;
  const found = await cache.find(circumstances);
  const often = times === 1 ? '' : `, ${times} times`;
  context.emit({
    type: 'note',
    text: `run: ${name}: ${what}${often} (${why})${found === undefined ? '' : ': known from an earlier gate'}`,
  });
  if (found !== undefined) return { samples: found, cached: true };
  const out = join(
    config.out,
    'kernels',
    patches[0] === 0 ? 'base' : `patch-${patches[0]}`,
    `run-${context.number}`,
  );
  await mkdir(out, { recursive: true });
  const samples = await runStep({
    ...{ profile, projectDir, parts, wanted, times, out },
    config: once ? { ...config, cold: true } : config,
    prepared: { ...prepared, kernel },
    emit: context.emit,
    signal: context.signal,
  });
  await cache.store(circumstances, samples);
  return { samples, cached: false };
}

function failStop(stop: number): never {
  throw new Error(`the plan asks for kernel ${stop}, which is not there`);
}
