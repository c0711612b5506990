import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import type { Selection } from './selection.ts';
import { selectTests } from './selection.ts';

/** Everything that decides a run, resolved once: command line, then FUSEGATE_* variables, then defaults. */
export interface Config {
  readonly profile: string;
  /** Path or git range; `null`: the profile's own. */
  readonly series: string | null;
  /** Only so many patches of the series are applied; `null`: all. */
  readonly patches: number | null;
  readonly tree: string | null;
  /** Commit of `tree` to start from; `null`: where the series says, else what is checked out. */
  readonly base: string | null;
  /** A ready bzImage; `null`: build one. */
  readonly kernel: string | null;
  /** Paths of config fragments on top of the profile's. */
  readonly fragments: readonly string[];
  /** Added to the kernel's command line. */
  readonly append: string;
  readonly selection: Selection;
  readonly accelerator: 'auto' | 'kvm' | 'tcg';
  /** Machines at the same time. */
  readonly jobs: number;
  /** Absolute directory of this run's results. */
  readonly out: string;
  /** Symbolic link that shall lead to `out`; `null` when the user chose the directory. */
  readonly latest: string | null;
  /** Keep what a run otherwise removes: the patched worktree, evidence of tests that passed, the machine of `boot`. */
  readonly keep: boolean;
  /** Every machine boots; none is restored from a saved state. */
  readonly cold: boolean;
  /** The memory of a guest that hangs becomes evidence: up to a gigabyte. */
  readonly dumpGuestMemory: boolean;
  /** TAP on standard output instead of text. */
  readonly tap: boolean;
}

/** As the command line parser hands it over: what was not said is not there. */
export type Options = Readonly<Record<string, unknown>>;

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly projectDir: string;
  readonly defaultProfile: string;
  readonly defaultJobs: number;
  readonly now: Date;
}

const text = z.string().min(1, 'must not be empty');
const list = z.union([z.array(text), text.transform((value) => [value])]);

/** In digits: an empty word, as of a variable that is not set, is no 0. */
function wholeNumber(bounds: (number: z.ZodNumber) => z.ZodNumber) {
  return z.preprocess(
    (value) => (typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : value),
    bounds(z.number('must be a whole number').int('must be a whole number')),
  );
}

const schema = z.object({
  profile: text.optional(),
  series: text.optional(),
  patches: wholeNumber((number) => number.min(0, 'must be at least 0')).optional(),
  tree: text.optional(),
  base: text.optional(),
  kernel: text.optional(),
  config: list.default([]),
  append: z.string().default(''),
  suite: list.default([]),
  match: list.default([]),
  accel: z.enum(['auto', 'kvm', 'tcg']).default('auto'),
  jobs: wholeNumber((number) => number.min(1, 'must be at least 1').max(64, 'must be at most 64')).optional(),
  out: text.optional(),
  keep: z.stringbool().or(z.boolean()).default(false),
  cold: z.stringbool().or(z.boolean()).default(false),
  dumpGuestMemory: z.stringbool().or(z.boolean()).default(false),
  tap: z.stringbool().or(z.boolean()).default(false),
});

/** @throws Failure E_USAGE (user): which option, what it must be, what it was. */
export function resolveConfig(options: Options, around: Surroundings): Config {
  const raw = Object.fromEntries(
    Object.keys(schema.shape).map((key) => [key, options[key] ?? fromEnvironment(around.env, key)]),
  );
  const parsed = schema.safeParse(raw);
  if (!parsed.success) throw usage(parsed.error.issues[0], raw);
  const { config, suite, match, accel, out, ...rest } = parsed.data;
  const path = (value: string): string => resolve(around.cwd, value);
  const profile = rest.profile ?? around.defaultProfile;
  const series = rest.series === undefined ? null : seriesPath(rest.series, path);
  return {
    ...rest,
    profile,
    jobs: rest.jobs ?? around.defaultJobs,
    series,
    patches: rest.patches ?? null,
    base: baseOf(rest),
    tree: existing('tree', rest.tree, path),
    kernel: existing('kernel', rest.kernel, path),
    fragments: config.map((file) => existing('config', file, path) ?? file),
    selection: selectTests(around.projectDir, suite, match),
    accelerator: accel,
    out: out === undefined ? join(around.cwd, 'out', `${timestamp(around.now)}-${profile}`) : path(out),
    latest: out === undefined ? join(around.cwd, 'out', 'latest') : null,
  };
}

function baseOf({
  base,
  tree,
}: {
  readonly base?: string | undefined;
  readonly tree?: string | undefined;
}): string | null {
  if (base === undefined || tree !== undefined) return base ?? null;
  throw new Failure('E_USAGE', 'user', '--base is a commit of the tree that --tree names', {
    hint: 'without --tree the kernel is the one of the profile',
  });
}

/** In place of a profile's name: all that should pass, one after the other. */
export const ALL_PROFILES = 'all';

/** `--accel` may be given as FUSEGATE_ACCEL. */
function fromEnvironment(env: Surroundings['env'], key: string): string | undefined {
  const value = env[`FUSEGATE_${key.toUpperCase()}`];
  return value === '' ? undefined : value;
}

/** A git range and a Message-ID stay as they are; what lies on disk becomes absolute. */
export function seriesPath(series: string, path: (value: string) => string): string {
  return existsSync(path(series)) ? path(series) : series;
}

function existing(option: string, value: string | undefined, path: (value: string) => string): string | null {
  if (value === undefined) return null;
  if (existsSync(path(value))) return path(value);
  throw new Failure('E_USAGE', 'user', `--${option}: there is no ${JSON.stringify(value)}`, {
    hint: `looked for ${path(value)}`,
  });
}

/** `20261122-081830`, local time. */
function timestamp(now: Date): string {
  const part = (value: number): string => String(value).padStart(2, '0');
  const day = `${now.getFullYear()}${part(now.getMonth() + 1)}${part(now.getDate())}`;
  return `${day}-${part(now.getHours())}${part(now.getMinutes())}${part(now.getSeconds())}`;
}

function usage(issue: z.core.$ZodIssue | undefined, raw: Options): Failure {
  const key = String(issue?.path[0] ?? '');
  const value = raw[key] === undefined ? 'nothing' : JSON.stringify(raw[key]);
  const must = issue?.code === 'invalid_value' ? `must be one of ${issue.values.join(', ')}` : issue?.message;
  const not = raw[key] === '' ? '' : `, not ${value}`;
  return new Failure('E_USAGE', 'user', `--${key} ${must ?? 'is not valid'}${not}`, {
    hint: 'see `npx fusegate run --help`',
  });
}
