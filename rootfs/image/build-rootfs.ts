import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { storeEntry } from '#runner/lib/content-store.ts';
import type { Emit } from '#runner/lib/events.ts';
import { exec, execOrFail } from '#runner/lib/exec.ts';
import { Failure } from '#runner/lib/failure.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import { runStage } from '#runner/lib/stage.ts';
import { aptSources, hostRelease, type HostRelease } from './apt-sources.ts';
import { findGuestBinaries, type GuestBinaries } from './guest-binaries.ts';
import { baseInitramfs } from './initramfs.ts';
import { readManifest, type Manifest } from './manifest.ts';
import type { RootfsImage } from './rootfs-image.ts';

export interface BuildRootfsContext {
  readonly emit: Emit;
  readonly signal: AbortSignal;
  /** Receives what mmdebstrap and mke2fs say. */
  readonly log: string;
}

const here = dirname(fileURLToPath(import.meta.url));
const manifestFile = join(here, 'manifest.json');
const recipe = join(here, 'make-disks.sh');
const initDir = join(here, '..', 'init');

/** Raise it when the image comes out differently from the same inputs. */
const FORMAT = 1;

/** In `initDir`. */
const INIT_FILES = ['early-init', 'init', 'mounts', 'kernel-mounts', 'sshd_config'] as const;
const FILES = ['root.ext4', 'scratch.ext4', 'initramfs.cpio.gz'] as const;

interface Inputs {
  readonly manifest: Manifest;
  readonly host: HostRelease;
  readonly suite: string;
  readonly binaries: GuestBinaries;
}

/**
 * The guest image for the manifest: taken from the cache, or made with mmdebstrap from the mirror that this
 * machine's apt uses. Reports the stage `image`.
 *
 * @throws Failure E_ROOTFS_BUILD, E_DISK_FULL, E_TOOL_MISSING, E_APT_SOURCES, E_HOST_UNSUPPORTED,
 *   E_SETUP_INCOMPLETE (infra), E_ROOTFS_MANIFEST (user), E_INTERRUPTED.
 */
export async function buildRootfs(context: BuildRootfsContext): Promise<RootfsImage> {
  const stage = { stage: 'image', title: 'guest image', log: context.log } as const;
  return runStage(context.emit, stage, async () => {
    const inputs = await readInputs();
    const key = await imageKey(inputs);
    const dir = cacheDir('rootfs', key);
    const { cached } = await storeEntry({
      dir,
      files: FILES,
      signal: context.signal,
      note: (text) => context.emit({ type: 'note', text }),
      make: async (draft) => makeImage(draft, key, inputs, context),
    });
    const value: RootfsImage = {
      key,
      rootDisk: join(dir, FILES[0]),
      scratchDisk: join(dir, FILES[1]),
      initramfs: join(dir, FILES[2]),
    };
    return { value, cached, detail: `${inputs.host.id} ${inputs.suite}` };
  });
}

async function readInputs(): Promise<Inputs> {
  const [manifest, host, binaries] = await Promise.all([
    readManifest(manifestFile),
    hostRelease(),
    findGuestBinaries(),
  ]);
  return { manifest, host, suite: manifest.suite ?? host.codename, binaries };
}

async function imageKey({ manifest, host, suite, binaries }: Inputs): Promise<string> {
  const hash = createHash('sha256');
  hash.update(JSON.stringify([FORMAT, manifest, host.id, suite, binaries.identity]));
  const sources = [recipe, ...INIT_FILES.map((name) => join(initDir, name))];
  for (const source of sources) hash.update('\0').update(await readFile(source));
  return hash.digest('hex').slice(0, 32);
}

async function makeImage(
  out: string,
  key: string,
  inputs: Inputs,
  context: BuildRootfsContext,
): Promise<void> {
  const work = await mkdtemp(join(tmpdir(), 'fusegate-image-'));
  try {
    const tree = join(work, 'tree.tar');
    await installPackages(tree, inputs, context);
    await makeDisks(tree, work, out, key, { inputs, context });
    const [busybox, earlyInit] = await Promise.all([
      readFile(join(out, 'busybox')),
      readFile(join(initDir, 'early-init')),
    ]);
    await writeFile(join(out, 'initramfs.cpio.gz'), baseInitramfs(busybox, earlyInit));
    await rm(join(out, 'busybox'));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function installPackages(
  tree: string,
  { manifest, host, suite }: Inputs,
  { signal, log }: BuildRootfsContext,
): Promise<void> {
  const sources = await aptSources(host, suite, signal);
  const options = [
    '--variant=minbase',
    `--mode=${isRoot() ? 'root' : 'unshare'}`,
    '--format=tar',
    `--include=${manifest.packages.join(',')}`,
    '--aptopt=APT::Install-Recommends "false"',
    '--aptopt=Acquire::Languages "none"',
    '--dpkgopt=force-unsafe-io',
    ...manifest.exclude.map((pattern) => `--dpkgopt=path-exclude=${pattern}`),
  ];
  const result = await exec('mmdebstrap', [...options, suite, tree, '-'], {
    input: sources.map((line) => `${line}\n`).join(''),
    signal,
    log,
    // Never ask anything, whatever the packages' scripts would like to know.
    env: { DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (result.exitCode !== 0) throw await imageFailure('mmdebstrap', log);
}

async function makeDisks(
  tree: string,
  work: string,
  out: string,
  key: string,
  { inputs, context }: { readonly inputs: Inputs; readonly context: BuildRootfsContext },
): Promise<void> {
  const unpacked = join(work, 'root');
  await execOrFail('mkdir', [unpacked]);
  const command = ['sh', recipe];
  const [program = '', ...args] = isRoot() ? command : ['fakeroot', '--', ...command];
  const result = await exec(program, args, {
    signal: context.signal,
    log: context.log,
    env: {
      // mke2fs is in sbin, which an ordinary user's path may not have.
      PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
      TREE_TAR: tree,
      WORK: unpacked,
      OUT: out,
      NODE: inputs.binaries.node,
      KOFFI: inputs.binaries.koffi,
      INIT: initDir,
      UUID: key.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5'),
      SCRATCH_MIB: String(inputs.manifest.scratchMib),
    },
  });
  if (result.exitCode !== 0) throw await imageFailure('the recipe for the disks', context.log);
}

async function imageFailure(what: string, log: string): Promise<Failure> {
  const text = await readFile(log, 'utf8').catch(() => '');
  const evidence = [{ label: 'image build log', path: log }];
  if (text.includes('No space left on device')) {
    return new Failure('E_DISK_FULL', 'infra', `no space left on the device while ${what} ran`, {
      hint: 'the guest image needs about 2 GB in the temporary directory and 1 GB in the cache',
      evidence,
    });
  }
  return new Failure('E_ROOTFS_BUILD', 'infra', `${what} failed: ${lastComplaint(text)}`, {
    hint: 'is the package mirror reachable? `apt-get update` should work on this machine',
    evidence,
  });
}

/** mmdebstrap's errors begin with `E: `; otherwise the last line it is. */
export function lastComplaint(log: string): string {
  const lines = log.split('\n').filter((line) => line.trim() !== '');
  return (lines.findLast((line) => /^(?:E|Err|error)[:!]/i.test(line)) ?? lines.at(-1) ?? 'no output').trim();
}

function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
