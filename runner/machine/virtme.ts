import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';
import { exec, VERSION_MS } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';

/** A virtme-ng that can be called. */
export interface Virtme {
  readonly program: string;
  readonly version: string;
  /** Added to the environment: an unpacked copy must find its own parts. */
  readonly env: Readonly<Record<string, string>>;
}

/** Before it the options we rely on (`--disable-monitor`) are missing. */
const OLDEST: readonly [number, number] = [1, 33];

/** By program and environment: Python needs a fifth of a second to say its version, before every boot. */
const versions = new Map<string, string>();

/**
 * virtme-ng from `PATH` if it is new enough, otherwise the copy that set-up unpacked into the cache.
 *
 * @throws Failure E_VNG_MISSING (infra)
 */
export async function findVirtme(signal?: AbortSignal): Promise<Virtme> {
  const unpacked = cacheDir('tools', 'virtme-ng', 'usr');
  for (const candidate of [await onPath('vng'), join(unpacked, 'bin', 'vng')]) {
    if (candidate === undefined) continue;
    const env = candidate.startsWith(unpacked) ? unpackedEnv(unpacked) : {};
    const version = await versionOf(candidate, env, signal);
    if (version !== undefined && isNewEnough(version)) return { program: candidate, version, env };
  }
  throw new Failure(
    'E_VNG_MISSING',
    'infra',
    `virtme-ng ${OLDEST.join('.')} or later is neither in PATH nor below ${unpacked}`,
    { hint: 'run `make setup`; on Debian 13 and later `apt-get install virtme-ng` is enough' },
  );
}

function unpackedEnv(unpacked: string): Record<string, string> {
  return {
    PYTHONPATH: join(unpacked, 'lib', 'python3', 'dist-packages'),
    PATH: `${join(unpacked, 'bin')}:${process.env['PATH'] ?? ''}`,
  };
}

async function versionOf(
  program: string,
  env: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const key = JSON.stringify([program, env]);
  const known = versions.get(key);
  if (known !== undefined) return known;
  try {
    const { exitCode, stdout } = await exec(program, ['--version'], { env, signal, timeoutMs: VERSION_MS });
    const version = exitCode === 0 ? /(\d+\.\d+(?:\.\d+)*)/.exec(stdout)?.[1] : undefined;
    if (version !== undefined) versions.set(key, version);
    return version;
  } catch (error) {
    if (error instanceof Failure && error.code === 'E_TOOL_MISSING') return undefined;
    throw error;
  }
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

/** Full path of a program, as the shell would find it. */
export async function onPath(name: string): Promise<string | undefined> {
  for (const dir of (process.env['PATH'] ?? '').split(':').filter((part) => part !== '')) {
    const path = join(dir, name);
    if (await isExecutable(path)) return path;
  }
  return undefined;
}

async function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
