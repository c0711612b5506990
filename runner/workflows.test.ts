import { glob, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import validator from '@action-validator/core';
import test from 'ava';
import { parseDocument } from 'yaml';
import { projectRoot } from './lib/paths.ts';

interface Workflow {
  readonly permissions?: Record<string, string>;
  readonly jobs: Record<string, { readonly 'timeout-minutes'?: number; readonly steps: readonly RunStep[] }>;
}
interface RunStep {
  readonly run?: string;
  readonly uses?: string;
}

const files = (await Array.fromAsync(glob('.github/workflows/*.yml', { cwd: projectRoot }))).sort();

async function read(file: string): Promise<{ readonly text: string; readonly workflow: Workflow }> {
  const text = await readFile(join(projectRoot, file), 'utf8');
  const document = parseDocument(text, { strict: true, uniqueKeys: true });
  if (document.errors[0] !== undefined) throw document.errors[0];
  return { text, workflow: document.toJS() as Workflow };
}

test('workflows: there is one for continuous integration', (t) => {
  t.true(files.includes('.github/workflows/ci.yml'));
});

for (const file of files) {
  test(`workflows: ${file} is YAML and fits the schema of workflows`, async (t) => {
    const { text } = await read(file);
    t.deepEqual(validator.validateWorkflow(text).errors, []);
  });

  test(`workflows: ${file} gives every job a time limit and only read access`, async (t) => {
    const { workflow } = await read(file);
    t.deepEqual(workflow.permissions, { contents: 'read' });
    for (const [name, job] of Object.entries(workflow.jobs)) {
      t.is(typeof job['timeout-minutes'], 'number', name);
    }
  });
}

test('workflows: the schema check refuses what is not a workflow', (t) => {
  t.not(validator.validateWorkflow('on: push\njobs: { a: { steps: [] } }\n').errors.length, 0);
});

test('workflows: make check and make test both run, with the rule for /dev/kvm', async (t) => {
  const { workflow } = await read('.github/workflows/ci.yml');
  const runs = Object.values(workflow.jobs).flatMap(({ steps }) => steps.map(({ run = '' }) => run));
  t.true(runs.includes('make check'));
  t.true(runs.includes('make test'));
  t.true(runs.some((run) => run.includes('KERNEL=="kvm"')));
});
