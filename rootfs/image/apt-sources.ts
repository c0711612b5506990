import { readFile } from 'node:fs/promises';
import { execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';

/** The distribution this machine runs, from os-release(5). */
export interface HostRelease {
  /** `debian`, `ubuntu`, … */
  readonly id: string;
  /** `bookworm`, `noble`, … */
  readonly codename: string;
}

/** Components the guest's packages come from, by distribution. */
const COMPONENTS: Readonly<Record<string, readonly string[]>> = {
  debian: ['main'],
  ubuntu: ['main', 'universe'],
};

/** What we ask apt about every index it is configured for, in this order. */
const FIELDS = ['REPO_URI', 'RELEASE', 'CODENAME', 'COMPONENT', 'SIGNED_BY'] as const;

/**
 * The lines of a sources.list(5) that give the guest the same mirror and suites as this machine: release,
 * updates and security, nothing from third parties. apt itself says what it is configured for, so every file
 * format and mirror method that it knows works here too.
 *
 * @throws Failure E_APT_SOURCES (infra) when apt has no source for this release.
 */
export async function aptSources(
  host: HostRelease,
  suite: string,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const format = FIELDS.map((field) => `$(${field})`).join('\t');
  const { stdout } = await execOrFail(
    'apt-get',
    ['indextargets', '--format', format, 'Created-By: Packages'],
    { signal },
  );
  const lines = sourceLines(stdout, suite, COMPONENTS[host.id] ?? ['main']);
  if (lines.length > 0) return lines;
  throw new Failure('E_APT_SOURCES', 'infra', `apt on this machine has no source for ${suite}`, {
    hint: 'the guest image is made from the release that this machine runs; check `apt-get indextargets`',
  });
}

/** @param indexTargets tab-separated FIELDS, one index a line; unknown fields are left as `$(FIELD)`. */
export function sourceLines(
  indexTargets: string,
  suite: string,
  components: readonly string[],
): readonly string[] {
  const wanted = new Set([suite, `${suite}-updates`, `${suite}-security`]);
  const found = new Map<string, Set<string>>();
  for (const line of indexTargets.split('\n')) {
    const [uri = '', release = '', codename = '', component = '', signedBy = ''] = line
      .split('\t')
      .map((field) => (field.startsWith('$(') ? '' : field));
    if (!wanted.has(codename === '' ? release : codename) && !wanted.has(release)) continue;
    if (uri === '' || !components.includes(component)) continue;
    // An embedded key (several lines) cannot be repeated here; apt's own keyring has the distribution's keys.
    const options = signedBy.startsWith('/') ? `[signed-by=${signedBy}] ` : '';
    const source = `deb ${options}${uri} ${release}`;
    found.set(source, (found.get(source) ?? new Set()).add(component));
  }
  return [...found].map(([source, of]) => `${source} ${[...of].sort().join(' ')}`).sort();
}

/** @throws Failure E_HOST_UNSUPPORTED (infra) when this is neither Debian nor Ubuntu. */
export async function hostRelease(path = '/etc/os-release'): Promise<HostRelease> {
  const release = parseHostRelease(await readFile(path, 'utf8').catch(() => ''));
  if (release !== undefined && release.id in COMPONENTS) return release;
  throw new Failure('E_HOST_UNSUPPORTED', 'infra', 'the guest image can only be made on Debian or Ubuntu', {
    hint: 'run in a container of Debian 12 or later',
  });
}

export function parseHostRelease(text: string): HostRelease | undefined {
  const value = (key: string): string | undefined =>
    new RegExp(`^${key}="?([a-z0-9._-]+)"?$`, 'm').exec(text)?.[1];
  const id = value('ID');
  const codename = value('VERSION_CODENAME');
  return id === undefined || codename === undefined ? undefined : { id, codename };
}
