import { createHash } from 'node:crypto';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { aptSources, hostRelease } from '#rootfs/image/apt-sources.ts';
import { storeEntry } from '#runner/lib/content-store.ts';
import { execOrFail } from '#runner/lib/exec.ts';
import { cacheDir } from '#runner/lib/paths.ts';
import type { Virtme } from '#runner/machine/virtme.ts';
import type { PartContext } from '#runner/run/parts.ts';

/**
 * What a host that somebody calls `vng --ssh` on has, and virtme-ng's init uses: systemd's tmpfiles, udev, ip,
 * udhcpc of busybox, sshd.
 */
const PACKAGES = ['busybox-static', 'iproute2', 'kmod', 'openssh-server', 'procps', 'systemd', 'udev'];

const ARCHIVE = 'root.tar';

/**
 * A root filesystem for virtme-ng's own way of booting, from this machine's mirror. Not the machine's own root,
 * which would have to have sshd installed, be configured by us, and make every machine's figure another.
 *
 * @param log Receives what mmdebstrap says.
 * @returns the path of a tar archive in the cache.
 * @throws Failure E_HOST_UNSUPPORTED, E_APT_SOURCES, E_BENCH_STOCK, E_TOOL_MISSING (infra).
 */
export async function stockRootArchive(log: string, { emit, signal }: PartContext): Promise<string> {
  const host = await hostRelease();
  const identity = JSON.stringify([1, host.id, host.codename, PACKAGES]);
  const dir = cacheDir('bench', createHash('sha256').update(identity).digest('hex').slice(0, 32));
  await mkdir(cacheDir('bench'), { recursive: true });
  await storeEntry({
    dir,
    files: [ARCHIVE],
    signal,
    note: (text) => emit({ type: 'note', text }),
    make: async (draft) => {
      emit({ type: 'note', text: `making a root filesystem for stock virtme-ng, once (log: ${log})` });
      const sources = await aptSources(host, host.codename, signal);
      await execOrFail(
        'mmdebstrap',
        [
          '--variant=minbase',
          `--mode=${process.geteuid?.() === 0 ? 'root' : 'unshare'}`,
          '--format=tar',
          `--include=${PACKAGES.join(',')}`,
          '--aptopt=APT::Install-Recommends "false"',
          '--aptopt=Acquire::Languages "none"',
          '--dpkgopt=force-unsafe-io',
          host.codename,
          join(draft, ARCHIVE),
          '-',
        ],
        {
          input: sources.map((line) => `${line}\n`).join(''),
          signal,
          log,
          env: { DEBIAN_FRONTEND: 'noninteractive' },
          code: 'E_BENCH_STOCK',
          hint: `the package mirror must be reachable; mmdebstrap's words are in ${log}`,
        },
      );
    },
  });
  return join(dir, ARCHIVE);
}

/**
 * What a host that somebody installed has and a bootstrapped root has not. virtme-ng's init starts jobs with
 * their input from /dev/null before it mounts /dev; a file is as good and needs no privilege to make.
 */
const OF_A_HOST: Readonly<Record<string, string>> = {
  'dev/null': '',
  'etc/hosts': '127.0.0.1 localhost\n',
  'etc/machine-id': '5d1f0c8e5e6b4c1f9a2b7c3d4e5f6071\n',
};

/** Where virtme-ng's init looks for its own scripts. */
const GUEST_TOOLS = '/run/virtme/guesttools';

/** Unpacks the archive and lets the owner of `publicKey` in as root. */
export async function unpackStockRoot(
  archive: string,
  root: string,
  { publicKey, virtme, signal }: { publicKey: string; virtme: Virtme; signal: AbortSignal },
): Promise<void> {
  await mkdir(join(root, 'root', '.ssh'), { recursive: true, mode: 0o700 });
  await execOrFail('tar', ['--extract', '--file', archive, '--directory', root, '--exclude', './dev/*'], {
    signal,
    code: 'E_BENCH_STOCK',
  });
  for (const [path, text] of Object.entries(OF_A_HOST)) await writeFile(join(root, path), text);
  await keepGuestTools(root, virtme, signal);
  // virtme-ng lets in whoever has a key here.
  await writeFile(join(root, 'root', '.ssh', 'id_ed25519.pub'), `${publicKey}\n`);
}

/**
 * With a root other than the host's, virtme-ng 1.35 mounts its scripts below /run and then its init mounts an
 * empty /run over them: no DHCP, no sshd. The guest's own systemd-tmpfiles brings them back.
 */
async function keepGuestTools(root: string, virtme: Virtme, signal: AbortSignal): Promise<void> {
  const { stdout } = await execOrFail(
    'python3',
    ['-c', 'from virtme import resources; print(resources.find_guest_tools())'],
    { env: virtme.env, signal, code: 'E_BENCH_STOCK' },
  );
  await cp(stdout.trim(), join(root, 'opt', 'virtme-guesttools'), { recursive: true });
  await mkdir(join(root, 'etc', 'tmpfiles.d'), { recursive: true });
  const rule = `L+ ${GUEST_TOOLS} - - - - /opt/virtme-guesttools\n`;
  await writeFile(join(root, 'etc', 'tmpfiles.d', 'virtme-ng.conf'), rule);
}
