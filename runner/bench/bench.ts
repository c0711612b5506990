import { cpus, loadavg, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { projectRoot } from '#runner/lib/paths.ts';
import { Failure } from '#runner/lib/failure.ts';
import type { Config } from '#runner/config/config.ts';
import type { Profile } from '#kernel/profile.ts';
import { loadReport } from '#runner/report/load-report.ts';
import type { PartContext, RunParts } from '#runner/run/parts.ts';
import { prepareAll, type Prepared } from '#runner/run/prepare.ts';
import { measureBoot } from './boot-part.ts';
import { measureBuild } from './build-part.ts';
import type { BenchResult, Figure, Host, Part, PartName } from './figure.ts';
import { measureFio } from './fio-part.ts';
import { measureGate, type GatePartOptions } from './gate-part.ts';
import { measureMachine } from './machine-part.ts';
import { measureReport } from './report-part.ts';
import { measureRun } from './run-part.ts';
import { openScratch } from './scratch.ts';

/** Added to the profile's configuration, for both sides of every comparison alike. */
export const stockFragment = join(projectRoot, 'kernel', 'config', 'fragments', 'stock-vng.config');

export interface BenchOptions {
  /** Its `fragments` have `stockFragment`. */
  readonly config: Config;
  readonly profile: Profile;
  readonly parts: RunParts;
  /** The command line's first file. */
  readonly program: string;
  readonly rounds: number;
  readonly only: readonly PartName[];
  /** A report or its directory, of a warm `make test`. */
  readonly report: string | undefined;
}

interface Work {
  readonly name: PartName;
  readonly title: string;
  readonly method: string;
  readonly measure: () => Promise<readonly Figure[]>;
}

/**
 * Measures what was asked for, part after part; a part that cannot be measured says why and holds up none.
 *
 * @throws the signal's reason, and what is a bug of ours.
 */
export async function bench(options: BenchOptions, context: PartContext): Promise<BenchResult> {
  const startedAt = new Date().toISOString();
  const loadBefore = load();
  await using scratch = await openScratch();
  let prepared: Promise<Prepared> | undefined;
  const prepare = (): Promise<Prepared> =>
    (prepared ??= prepareAll(options.config, options.profile, options.parts, context));
  const parts: Part[] = [];
  for (const work of works(options, prepare, scratch.dir, context)) {
    if (options.only.includes(work.name)) parts.push(await measurePart(work, context));
  }
  const made = await prepared?.catch(() => undefined);
  return {
    schema: 1,
    startedAt,
    profile: options.profile.name,
    kernel: made === undefined ? null : kernelOf(made),
    accelerator: made?.accelerator ?? null,
    host: describeHost(loadBefore),
    parts,
  };
}

function works(
  { config, profile, parts, program, rounds, report }: BenchOptions,
  prepare: () => Promise<Prepared>,
  scratch: string,
  context: PartContext,
): readonly Work[] {
  const { out, fragments, append, tree } = config;
  const boot: Work = {
    name: 'boot',
    title: 'Boot',
    method:
      'From the start of the machine until the daemon answers, against stock `vng --ssh --ssh-tcp` with a Debian ' +
      'root over 9p until its first SSH command is done. The same kernel, CPUs and memory; in turn. The first ' +
      'boot of a process asks virtme-ng; the others start QEMU as virtme-ng has started it for that one.',
    measure: async () =>
      measureBoot({ prepared: await prepare(), parts, append, out }, scratch, rounds, context),
  };
  const machine: Work = {
    name: 'machine',
    title: 'Saved machine',
    method:
      'Copies of one saved machine, from the start of QEMU until the daemon answers, in turn with boots of ' +
      'the same kernel; round trips to the agent over the port of a copy and over the SSH connection of a boot; a copy that ' +
      'panics, until the next one of its pool answers.',
    measure: async () =>
      measureMachine({ prepared: await prepare(), parts, append, out }, profile.abi, rounds, context),
  };
  const fio: Work = {
    name: 'fio',
    title: 'Passthrough I/O',
    method:
      'fio with 4 KiB blocks (psync, 16 MiB, 2 s each) in one guest on ext4 itself, on a passthrough file over it and on ' +
      'the same file without passthrough, in turn; the page cache is warm, and the server has no extended ' +
      'attributes. Ratios are of the same round. Emulated guests show what a request costs in instructions, not ' +
      'what hardware does.',
    measure: async () =>
      measureFio({ prepared: await prepare(), parts, append, out }, profile.abi, rounds, context),
  };
  const build: Work = {
    name: 'build',
    title: 'Build',
    method:
      'One file of fs/fuse changed and the kernel built again: the build stage of the runner against `make` ' +
      'with the same arguments and the same ccache in a copy of the tree. Overhead is that of each round.',
    measure: async () => {
      await prepare();
      const request = { profile, tree: tree ?? undefined, fragments, role: 'base' } as const;
      return measureBuild(request, { out, scratch }, rounds, context);
    },
  };
  const run = runWork({ config, program }, prepare, context);
  const gate = gateWork({ config, program, scratch }, context);
  if (report === undefined) return [boot, machine, fio, build, run, gate];
  const warm: Work = {
    name: 'report',
    title: 'Warm run',
    method: 'A whole `make test` that was run before, with nothing to build: figures of its report.',
    measure: async () => measureReport(await loadReport(report)),
  };
  return [boot, machine, fio, build, run, gate, warm];
}

function runWork(
  { config, program }: Pick<BenchOptions, 'config' | 'program'>,
  prepare: () => Promise<Prepared>,
  context: PartContext,
): Work {
  return {
    name: 'run',
    title: 'Run',
    method:
      'Runs of one area (passthrough-io, or what `--suite` says) on the same kernel, watched from outside. Memory is that ' +
      'of the processes of Node, without QEMU; megabytes are 10^6 bytes. Also with one machine the next one is ' +
      'got ready, by the other processor.',
    measure: async () => {
      await prepare();
      return measureRun({ program, args: runArguments(config), out: config.out }, context);
    },
  };
}

function gateWork(options: GatePartOptions, context: PartContext): Work {
  return {
    name: 'gate',
    title: 'Gate',
    method:
      'Calls of the program as a user makes them: `run` of the tip of series v12 on Linux 6.1, and `gate` of all its ' +
      'eight patches, each from a build tree that has just built the base and with kernels that are in no cache; the ' +
      'same gate again; a gate and a run of versions with another last patch.',
    measure: () => measureGate(options, context),
  };
}

function runArguments({ profile, fragments, tree, accelerator, selection }: Config): readonly string[] {
  return [
    ...['--profile', profile, '--accel', accelerator],
    ...(selection.files.length === 0 ? ['passthrough-io'] : selection.files).flatMap((area) => [
      '--suite',
      area,
    ]),
    ...fragments.flatMap((fragment) => ['--config', fragment]),
    ...(tree === null ? [] : ['--tree', tree]),
  ];
}

async function measurePart({ name, title, method, measure }: Work, { signal }: PartContext): Promise<Part> {
  try {
    return { name, title, method, figures: await measure(), notMeasured: null };
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Failure)) throw error;
    const notMeasured = { code: error.code, reason: error.message, hint: error.hint ?? null };
    return { name, title, method, figures: [], notMeasured };
  }
}

function kernelOf({ kernel }: Prepared): BenchResult['kernel'] {
  return { release: kernel.release, imageSha256: kernel.imageSha256 };
}

function describeHost(loadBefore: number): Host {
  return {
    cpus: cpus().length,
    cpuModel: cpus()[0]?.model ?? 'unknown',
    memoryMib: Math.round(totalmem() / 2 ** 20),
    release: release(),
    loadBefore,
    loadAfter: load(),
  };
}

function load(): number {
  return loadavg()[0] ?? 0;
}
