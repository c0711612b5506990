import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { Failure } from '#runner/lib/failure.ts';
import { projectRoot } from '#runner/lib/paths.ts';

const Name = z.string().regex(/^[a-z0-9][a-z0-9.-]*$/u, 'lower-case letters, digits, dots and dashes');

const Tarball = z.strictObject({
  /** `https:`, `file:` or a plain path; `.tar.xz`, `.tar.gz` or `.tar`. */
  url: z.string().min(1),
  sha256: z.string().regex(/^[0-9a-f]{64}$/u, 'a sha256 in lower-case hex'),
});
export type Tarball = z.infer<typeof Tarball>;

const GuestNeeds = z.strictObject({
  /** Memory of the machine. Debug builds keep shadows and quarantines. */
  memoryMib: z.int().min(256).default(1024),
  /** How much longer system calls take than on a kernel of every day: multiplies deadlines. */
  slowdown: z.number().min(1).default(1),
  /** The kernel has kmemleak: a machine is searched for leaks before it ends. */
  leakScan: z.boolean().default(false),
});
export type GuestNeeds = z.infer<typeof GuestNeeds>;

/** A kernel to test, as data: where it comes from, what is applied, how it is configured, what to expect. */
const Profile = z.strictObject({
  name: Name,
  /** One line for lists and `--help`. */
  description: z.string().min(1),
  /** Tried in this order: the distribution's package, then the tarball. */
  source: z
    .strictObject({
      debianPackage: z
        .string()
        .regex(/^linux-source-[0-9.]+$/u)
        .optional(),
      tarball: Tarball.optional(),
    })
    .refine((source) => source.debianPackage !== undefined || source.tarball !== undefined, {
      message: 'needs a debianPackage or a tarball',
    }),
  /** Folder or file below kernel/series that is applied unless the user brings a series. */
  series: Name.nullable(),
  /** Names of files in kernel/config/fragments, without `.config`. */
  fragments: z.array(Name).min(1),
  /** `backing-id`: mainline since 6.9. `fd`: the 2021 series, V10 to V12. */
  abi: z.enum(['backing-id', 'fd']),
  /** Numbers of the kernel ABI that differ between generations; suites read them through the runner. */
  kernelFeatures: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
  /** What a machine with this kernel needs beyond the usual. */
  guest: GuestNeeds.optional(),
  /** Compile and link steps of a build from nothing: the first build's progress is measured against it. */
  buildSteps: z.int().positive().optional(),
  /**
   * For a kernel that is here because it is wrong: exactly the tests that fail on it (`fusegate expected`). A run
   * of it fails all the same. Empty for a kernel that should pass.
   */
  expectations: z.array(
    z.strictObject({
      /** `area/file: title` */
      test: z.string().min(1),
      reason: z.string().min(1),
      /** Words that the test's message has to have. */
      says: z.array(z.string().min(1)),
    }),
  ),
});
export type Profile = z.infer<typeof Profile>;

/** What machines for this profile are given. */
export function guestNeeds({ guest }: Pick<Profile, 'guest'>): GuestNeeds {
  return guest ?? GuestNeeds.parse({});
}

const profilesDir = join(projectRoot, 'kernel', 'profiles');

/** The profile when nobody names one: the origin of the project once its series is here, else mainline. */
export function defaultProfile(root: string = projectRoot): string {
  const seed = 'v12-6.1';
  const present =
    existsSync(join(root, 'kernel', 'series', 'v12')) &&
    existsSync(join(root, 'kernel', 'profiles', `${seed}.json`));
  return present ? seed : 'mainline-6.12';
}

export async function listProfiles(dir: string = profilesDir): Promise<readonly string[]> {
  const files = await readdir(dir);
  return files
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -'.json'.length))
    .toSorted();
}

/** Those that should pass and are for every day: no kernel that is wrong on purpose, no debug build. */
export async function passingProfiles(dir: string = profilesDir): Promise<readonly string[]> {
  const profiles = await Promise.all((await listProfiles(dir)).map((name) => loadProfile(name, dir)));
  return profiles
    .filter(({ name, expectations }) => expectations.length === 0 && !name.endsWith('-debug'))
    .map(({ name }) => name);
}

/** @throws Failure E_PROFILE_UNKNOWN (user), E_PROFILE_INVALID (user) naming file, key and what it must be. */
export async function loadProfile(name: string, dir: string = profilesDir): Promise<Profile> {
  const known = await listProfiles(dir);
  if (!known.includes(name)) {
    throw new Failure('E_PROFILE_UNKNOWN', 'user', `there is no profile ${JSON.stringify(name)}`, {
      hint: `choose one of: ${known.join(', ')}`,
    });
  }
  const path = join(dir, `${name}.json`);
  const parsed = Profile.safeParse(parseJson(path, await readFile(path, 'utf8')));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = issue === undefined || issue.path.length === 0 ? 'the file' : issue.path.join('.');
    throw invalid(path, `${where}: ${issue?.message ?? 'not a profile'}`);
  }
  if (parsed.data.name !== name) {
    throw invalid(path, `name: is ${JSON.stringify(parsed.data.name)}, must be the file's name`);
  }
  return parsed.data;
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw invalid(path, 'not JSON', cause);
  }
}

function invalid(path: string, what: string, cause?: unknown): Failure {
  return new Failure('E_PROFILE_INVALID', 'user', `profile ${path} is not valid: ${what}`, {
    hint: 'kernel/README.md says what a profile holds',
    cause,
  });
}
