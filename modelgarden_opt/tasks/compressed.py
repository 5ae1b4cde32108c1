"""What the tasks have in common: every technique is an optional block."""

from collections.abc import Iterator
import contextlib
import copy
import itertools

import tensorflow as tf
import tf_keras

from modelgarden_opt import errors
from modelgarden_opt import techniques
from modelgarden_opt.data import defects
from modelgarden_opt.data import inputs
from modelgarden_opt.data import labels
from modelgarden_opt.data import resuming
from modelgarden_opt.data import sampling
from modelgarden_opt.data import service
from modelgarden_opt.modeling import batch_norm
from modelgarden_opt.modeling import constraints
from modelgarden_opt.modeling import factory
from modelgarden_opt.modeling import post_training
from modelgarden_opt.modeling.channel_pruning import channel_search
from modelgarden_opt.modeling.channel_pruning import importance
from modelgarden_opt.modeling.state import architecture
from modelgarden_opt.modeling.state import pretrained
from modelgarden_opt.tasks import accumulation
from modelgarden_opt.tasks import teaching

# What the names of variables that are ranges have in common.
_RANGES = techniques.TECHNIQUES['quantization'].variable_prefix


class CompressedTask:
  """Mixin: compresses the model that an `official.vision` task builds.

  Attributes:
    filters: Numbers of filters of the last model that was built, where they
      differ from the float model's.
    begun: Whether the run directory (`logging_dir`) holds a model already,
      whose numbers of filters are known then.
    resumed_at: Step from which training goes on. Deterministic training data
      goes on there as well.
    gradient_accumulation_steps: See `configs.runtime`.
  """

  filters: architecture.Filters = {}
  begun = False
  resumed_at = 0
  gradient_accumulation_steps = 1
  _pruned: channel_search.Result | None = None
  _teacher: teaching.Teacher | None = None

  def build_model(self) -> tf_keras.Model:
    """Returns the float model, compressed as the blocks say.

    Its numbers of filters are those of the run directory if training began
    there, else those of the checkpoint that it starts from, further pruned if
    the configuration says so.
    """
    config = self.task_config
    model = self.build_float_model()
    if self.begun:
      self.filters = architecture.read(self.logging_dir)
    else:
      self.filters = pretrained.filters(config)
      if config.pruning is not None and config.pruning.of_channels:
        self._pruned = self.prune_channels(model)
        self.filters = {**self.filters, **self._pruned.candidate.filters}
    return factory.compress(
        model, *techniques.blocks_of(config).values(), filters=self.filters)

  def build_float_model(self) -> tf_keras.Model:
    """Returns the model that the task's `model:` block describes."""
    return super().build_model()

  def prune_channels(self, model: tf_keras.Model) -> channel_search.Result:
    """Returns which channels of the float model stay."""
    whole = factory.neutral(model, pretrained.filters(self.task_config))
    pretrained.load(whole, self.task_config)

    def gradients() -> Iterator[dict]:
      statistics = [(v, v.numpy()) for v in whole.non_trainable_variables]
      compute = importance.gradients_of(
          super(CompressedTask, self).train_step, whole)
      for batch in self._training_batches(config.importance_steps):
        yield compute(batch)
      for variable, value in statistics:
        variable.assign(value)

    config = self.task_config.pruning
    return channel_search.prune(whole, config, gradients)

  def initialize(self, model: tf_keras.Model) -> None:
    """Loads the checkpoint that a fresh run starts from, and quantizes.

    Not called when the run directory has a checkpoint: a run that resumes, is
    evaluated or exported needs nothing but its own directory.

    Args:
      model: The model that `build_model` returned.

    Raises:
      UsageError: If the checkpoint is missing or does not fit.
    """
    config = self.task_config
    quantization = config.quantization
    if quantization is not None and not quantization.training and not (
        pretrained.named(config) or config.model.backbone.type == 'keras'):
      raise errors.UsageError(
          'task.quantization.pretrained_original_checkpoint: is needed with '
          'training: false, received none; give the checkpoint of a float run')
    if self._pruned is None:
      pretrained.load(model, config)
    else:
      channel_search.transfer(self._pruned.candidate, model)
      self._pruned = None
      self.reestimate_batch_norm(model, config.pruning.batch_norm_steps)
    # Quantizers start from the kernels that the steps have prepared.
    found = [item for item in constraints.find(model)
             if item.transform.technique != 'quantization']
    constraints.start(found)
    if quantization is not None and not quantization.training and (
        config.pruning is not None):
      constraints.update(found, config.pruning.last_step())
    if quantization is not None:
      post_training.quantize(
          model, quantization,
          lambda: self._training_batches(quantization.calibration_steps))

  def begin_training(self, model: tf_keras.Model) -> None:
    """Loads what training needs, fresh or resumed, and nothing else: a teacher.

    Args:
      model: The model that `build_model` returned.

    Raises:
      UsageError: If the teacher is missing or does not fit.
    """
    if self.task_config.distillation is not None:
      self._teacher = teaching.Teacher(
          self.task_config, model, self.build_float_model)

  def reestimate_batch_norm(self, model: tf_keras.Model, steps: int) -> None:
    """Estimates batch normalization from so many batches, if any."""
    if steps:
      batch_norm.reestimate(
          model, (images for images, _ in self._training_batches(steps)))

  def _training_batches(self, count: int) -> Iterator[tuple]:
    """Yields batches of (images, labels) of records from all over the files."""
    size = sampling.batch_size(self.task_config)
    drawn = sampling.sample(self.task_config, count * size)
    yield from itertools.islice(drawn.batches(self), count)

  @classmethod
  def create_optimizer(cls, optimizer_config, *args, **kwargs):
    """Returns the optimizer; its weight decay leaves trained ranges alone."""
    chosen = optimizer_config.optimizer.get()
    if hasattr(chosen, 'exclude_from_weight_decay'):
      # A copy: this is not what the user has configured.
      optimizer_config = copy.deepcopy(optimizer_config)
      chosen = optimizer_config.optimizer.get()
      chosen.exclude_from_weight_decay = [
          *(chosen.exclude_from_weight_decay or ()), _RANGES]
    optimizer = super().create_optimizer(optimizer_config, *args, **kwargs)
    if callable(getattr(optimizer, 'exclude_from_weight_decay', None)):
      optimizer.exclude_from_weight_decay(var_names=[_RANGES])
    return optimizer

  def train_step(self, inputs, model, optimizer, metrics=None):
    """Takes one training step; kernels satisfy their constraints after it."""
    train_step = super().train_step

    def step(part, with_optimizer):
      taught = contextlib.nullcontext()
      if self._teacher is not None:
        taught = self._teacher.step(part[0])
      with taught:
        return train_step(part, model, with_optimizer, metrics)

    if self.gradient_accumulation_steps > 1:
      logs = accumulation.train_step(
          step, inputs, optimizer, self.gradient_accumulation_steps)
    else:
      logs = step(inputs, optimizer)
    constraints.apply(constraints.find(model), optimizer)
    return logs

  def inference_step(self, inputs, model):
    if tf.distribute.get_strategy().num_replicas_in_sync < 2 or (
        inputs.shape[0]):  # On TPUs all batches are known to be whole.
      return super().inference_step(inputs, model)
    # A replica may get no image of the last batch, and convolutions of a CPU
    # fail on none. Not by `tf.pad`, which TensorFlow would fuse with them.
    shape = tf.shape(inputs)
    count = shape[0]
    missing = tf.cast(tf.equal(count, 0), tf.int32)
    image = tf.zeros(tf.concat([[missing], shape[1:]], 0), inputs.dtype)
    outputs = super().inference_step(tf.concat([inputs, image], 0), model)
    return tf.nest.map_structure(lambda output: output[:count], outputs)

  def build_losses(self, labels, model_outputs, aux_losses=None):
    """Returns the loss of labels, teacher and regularizers."""
    if self._teacher is None or not self._teacher.teaches:
      return super().build_losses(labels, model_outputs, aux_losses)
    loss = self._teacher.losses(
        super().build_losses(labels, model_outputs), model_outputs)
    if aux_losses:
      loss += self.task_config.losses.loss_weight * tf.add_n(aux_losses)
    return loss

  def check_records(self, params) -> defects.Found:
    """Returns what cannot be used of a split, see `defects.check`.

    Args:
      params: The input of one split.
    """
    config = self.task_config
    return defects.check(
        params, labels.rule_of(config), labels.field_of(config, params))

  def build_inputs(
      self,
      params,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of one split whose records are checked, see `defects`.

    Args:
      params: The input of one split.
      input_context: What `tf.distribute` says of the pipeline.

    Returns:
      Batches of (images [b, h, w, 3], labels).
    """
    config = self.task_config
    rule, field = labels.rule_of(config), labels.field_of(config, params)
    # A sample of a split has no field; its split was checked.
    if field is None:
      return self._build_inputs(params, input_context)
    # Parameter server strategies trace this method. It has no decorator, since
    # orbit looks for the name of its second argument.
    with tf.init_scope():
      found = self.check_records(params)
    with defects.left_out(found):
      if rule is None:
        return self._build_inputs(params, input_context)
      with labels.kept_out_of_range(rule.key):
        data = self._build_inputs(params, input_context)
    return labels.checked(data, rule, field)

  def _build_inputs(self, params, input_context) -> tf.data.Dataset:
    """Returns batches of one split, for training from where it goes on."""
    params = inputs.resolve(params)
    if not params.is_training:
      return super().build_inputs(params, input_context)
    params = service.use(params)
    if params.enable_tf_data_service and input_context is None:
      # Without one, the loader reads the records itself.
      input_context = tf.distribute.InputContext()
    first = resuming.num_batches(
        self.resumed_at if params.deterministic else 0, input_context)
    batch_size = params.global_batch_size
    if input_context:
      batch_size = input_context.get_per_replica_batch_size(batch_size)
    if first and resuming.can_skip_records(params):
      with resuming.skipping(first * batch_size):
        data = super().build_inputs(params, input_context)
    else:
      data = super().build_inputs(params, input_context).skip(first)
    return self.augment(data, params, first, input_context)

  def augment(
      self,
      dataset: tf.data.Dataset,
      params,
      first_batch: int,
      input_context: tf.distribute.InputContext | None = None,
  ) -> tf.data.Dataset:
    """Returns batches of training data with what this project adds to them.

    Args:
      dataset: Batches of one input pipeline.
      params: The input of training.
      first_batch: Number of the first batch, 0 for a fresh run.
      input_context: What `tf.distribute` says of the pipeline.
    """
    del params, first_batch, input_context
    return dataset
