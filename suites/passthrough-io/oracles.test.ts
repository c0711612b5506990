import { text } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';

/** Programs that others wrote to find out whether files keep what they are given, on a passthrough mount. */

interface FioJob {
  readonly engine: string;
  readonly options?: readonly string[];
  readonly maps?: boolean;
}

const SIZE_BYTES = 1024 * 1024;

const FIO_JOBS: Readonly<Record<string, FioJob>> = {
  psync: { engine: 'psync' },
  'psync-direct': { engine: 'psync', options: ['--direct=1'] },
  pvsync2: { engine: 'pvsync2' },
  libaio: { engine: 'libaio', options: ['--iodepth=8'] },
  'libaio-direct': { engine: 'libaio', options: ['--iodepth=8', '--direct=1'] },
  uring: { engine: 'io_uring', options: ['--iodepth=8'] },
  'uring-direct': { engine: 'io_uring', options: ['--iodepth=8', '--direct=1'] },
  // Registered files and registered buffers.
  'uring-fixed': { engine: 'io_uring', options: ['--iodepth=8', '--fixedbufs=1', '--registerfiles=1'] },
  mmap: { engine: 'mmap', maps: true },
  splice: { engine: 'splice' },
};

interface FioReport {
  readonly jobs: readonly {
    readonly jobname: string;
    readonly error: number;
    readonly read: { readonly io_bytes: number };
    readonly write: { readonly io_bytes: number };
  }[];
}

guestTest(
  'fio reads back what it wrote, with every engine, buffered and direct (A25, A26, I2)',
  async (t, guest) => {
    await needsProgram(guest, 'fio');
    await using fuse = await guest.mountFuse();
    const jobs = Object.entries(FIO_JOBS).filter(
      ([, job]) => job.maps !== true || guest.expected.mapsBackingFile,
    );
    const args = jobs.flatMap(([name, { engine, options = [] }]) => [
      `--name=${name}`,
      `--ioengine=${engine}`,
      `--filename=${fuse.file(name)}`,
      ...options,
    ]);
    const common = [
      ...['--thread', '--rw=randwrite', '--bsrange=4k-16k', '--blockalign=4k', `--size=${SIZE_BYTES}`],
      ...['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--randseed=7', '--output-format=json'],
      // Hints are no I/O, and FUSE answers some of them with READ (A33).
      ...['--fadvise_hint=0', '--invalidate=0'],
    ];
    const { stdout } = await guest.run(['fio', ...common, ...args], { timeoutMs: 25_000 });
    const report = JSON.parse(stdout.slice(stdout.indexOf('{'))) as FioReport;
    t.deepEqual(
      report.jobs.map(({ jobname, error, read, write }) => [jobname, error, write.io_bytes, read.io_bytes]),
      jobs.map(([name]) => [name, 0, SIZE_BYTES, SIZE_BYTES]),
    );
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

const XFS_IO = [
  ['-c', 'pwrite -q -S 0x61 0 20000'],
  ['-c', 'pwrite -q -S 0x62 -b 512 4000 9000'],
  ['-c', 'pwrite -q -S 0x63 -V 4 30000 5000'],
  ['-c', 'pread -v 3990 40'],
  ['-c', 'truncate 24000'],
  ['-c', 'falloc 0 40000'],
  ['-c', 'fpunch 5000 3000'],
  ['-c', 'pread -v 4980 60'],
  ['-c', 'copy_range -s 100 -d 50000 -l 1000 %'],
  ['-c', 'seek -a 0'],
  ['-c', 'fsync'],
  ['-c', 'fdatasync'],
] as const;
const XFS_IO_MAPPED = [
  ['-c', 'mmap -rw 0 16384'],
  ['-c', 'mwrite -S 0x64 100 6000'],
  ['-c', 'mread -v 90 20'],
  ['-c', 'msync -s 0 16384'],
  ['-c', 'pread -v 6090 20'],
  ['-c', 'munmap'],
] as const;

guestTest(
  'xfs_io prints for a passthrough file what it prints for one of ext4 (A5, A28)',
  async (t, guest) => {
    await needsProgram(guest, 'xfs_io');
    await using fuse = await guest.mountFuse();
    await using client = await guest.client();
    const commands = [...XFS_IO, ...(guest.expected.mapsBackingFile ? XFS_IO_MAPPED : [])];
    const printed = async (path: string, ...flags: string[]): Promise<string> => {
      const script = commands.flat().map((each) => each.replace('%', path));
      const { stdout, stderr } = await guest.run(['xfs_io', '-f', ...flags, ...script, path]);
      return `${stdout}${stderr}`
        .replaceAll(path, 'FILE')
        .replaceAll(/.*(ops\/sec|bytes\/sec|ops;).*\n/g, '');
    };
    const [seen, native] = [await printed(fuse.file('f')), await printed(fuse.backing('native'))];
    t.is(seen, native);
    t.regex(seen, /61 61 61/, 'it did print contents');
    const [one, other] = [fuse.backing('f'), fuse.backing('native')];
    t.is((await client.stat({ path: one })).size, 51_000);
    t.deepEqual(await client.readFile({ path: one }), await client.readFile({ path: other }));
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/**
 * Of stress-ng’s filesystem class what moves data or looks at what was moved, and ends soon where every
 * instruction is emulated. Left out: those whose files are large (copy-file, fpunch), which take long
 * with names and attributes (chmod, dentry, link, symlink), and which read ahead (A33).
 */
const STRESSORS: Readonly<Record<string, readonly string[]>> = {
  aio: ['--aio-requests', '4'],
  aiol: ['--aiol-requests', '4'],
  fallocate: ['--fallocate-bytes', '1M'],
  flock: [],
  getdent: [],
  hdd: ['--hdd-bytes', '1M', '--hdd-opts', 'wr-rnd,rd-rnd,fsync'],
  'io-uring': [],
  lockf: [],
  rename: [],
  revio: ['--revio-bytes', '1M'],
  seek: ['--seek-size', '1M'],
  sendfile: ['--sendfile-size', '64K'],
  'sync-file': ['--sync-file-bytes', '1M'],
  utime: [],
};

/** By operations, not by time: as much work on a slow machine as on a fast one. */
const OPERATIONS = '3';

guestTest('stress-ng verifies its files on a passthrough mount (G11)', async (t, guest) => {
  await needsProgram(guest, 'stress-ng');
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.mkdir({ path: fuse.file('tmp') });
  for (const [name, options] of Object.entries(STRESSORS)) {
    const work = [`--${name}`, '1', `--${name}-ops`, OPERATIONS, ...options];
    const { stdout, stderr } = await guest.run(
      ['stress-ng', '--temp-path', fuse.file('tmp'), '--verify', '--seed', '7', ...work],
      { timeoutMs: 10_000 },
    );
    const said = stdout + stderr;
    t.regex(said, /successful run completed/, name);
    t.notRegex(said, /\bfail(ed|ure)?:|\berror:/, name);
  }
  t.deepEqual(await client.readdir({ path: fuse.backing('tmp') }), [], 'it has tidied up');
  t.deepEqual(await fuse.dataRequests(), []);
});

async function needsProgram(guest: TestGuest, name: string): Promise<void> {
  const { code } = await guest.tryRun(['sh', '-c', `command -v ${name}`]);
  if (code !== 0) guest.skip(`this machine has no ${name}`);
}

guestTest('a loop device on a passthrough file reads and writes the backing file (A46)', async (t, guest) => {
  await using fuse = await guest.mountFuse();
  await using client = await guest.client();
  await client.writeFile({ path: fuse.backing('disk'), data: new Uint8Array(1024 * 1024).fill(0x61) });
  const attached = await guest.tryRun(['losetup', '-f', '--show', fuse.file('disk')]);
  if (attached.code !== 0) guest.skip(`this machine gives no loop device: ${attached.stderr.trim()}`);
  const device = attached.stdout.trim();
  await useLoop(client, device, fuse);
  await guest.run(['losetup', '-d', device]);
  const seen = await client.readFile({ path: fuse.backing('disk') });
  t.is(text(seen.subarray(4094, 4102)), 'aathroug', 'what was written to the device');
  t.deepEqual(await fuse.dataRequests(), []);
});

async function useLoop(client: Client, device: string, fuse: FuseMount): Promise<void> {
  const fd = await client.open({ path: device, flags: 'O_RDWR' });
  await client.pwrite({ fd, data: 'through', offset: 4096 });
  await client.fsync({ fd });
  await client.close({ fd });
  await fuse.requests();
}
